// Stub f2d0195fdca82383: this file is yours to write. `cargo xtask reset task-queue` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! The handler for pictures: work that does not wait for anything, and so must not run where others do.

use serde_json::Value;

use crate::context::{Context, Failure};

/// Scales the picture in the payload: `{"image": BASE64, "width": PIXELS}`, and `"height"` if it is not to
/// keep its proportions. The image is a PNG or JPEG file. Returns
/// `{"image": BASE64, "width": PIXELS, "height": PIXELS}`, with a PNG file.
///
/// The work is done by [`scale`](crate::scale()) on a thread where it may block, never on the
/// runtime's own: a second of it would keep everything else that waits there for a second. Its progress is
/// passed on, and it stops when the attempt is cancelled.
///
/// # Errors
/// [`Failure::Permanent`] if the payload or the picture cannot be read, or the size cannot be made: another
/// attempt would end the same way. [`Failure::Retry`] if it was stopped.
pub async fn resize(context: Context) -> Result<Value, Failure> {
    todo!("stage 3: read the payload, scale on a blocking thread, pass the progress on")
}
