//! The handler for pictures: work that does not wait for anything, and so must not run where others do.

use serde_json::Value;

use crate::context::{Context, Failure};

// solution only
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::kinds::Resize;
use crate::scale::{NotScaled, Scaled, scale};
// end solution only

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
    // stub stage 3: read the payload, scale on a blocking thread, pass the progress on
    let wanted = Resize::read(context.payload()).map_err(Failure::Permanent)?;
    let working = tokio::task::spawn_blocking(move || {
        scale(&wanted.image, wanted.width, wanted.height, |percent| {
            context.progress(percent);
            !context.is_cancelled()
        })
    });
    match working.await {
        Ok(Ok(Scaled { png, width, height })) => {
            Ok(json!({"image": STANDARD.encode(png), "width": width, "height": height}))
        }
        Ok(Err(NotScaled::Stopped)) => Err(Failure::Retry(NotScaled::Stopped.to_string())),
        Ok(Err(why)) => Err(Failure::Permanent(why.to_string())),
        Err(panic) => Err(Failure::Permanent(panic.to_string())),
    }
    // end stub
}
