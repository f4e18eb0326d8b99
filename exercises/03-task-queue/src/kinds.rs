//! The kinds of tasks that come with the service, for trying it, and what their payloads look like.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::context::{Context, Failure, Handlers, Outcome};
use crate::resize::resize;

/// The longest sleep, in milliseconds: an hour.
const LONGEST_SLEEP: u64 = 3_600_000;

/// The kinds that the service knows, in alphabetical order.
pub const KINDS: [&str; 5] = ["crash", "fail", "flaky", "resize", "sleep"];

/// The handlers of the service's kinds:
///
/// - `sleep`: `{"millis": N}`, up to an hour, with progress; the result is `{"slept": N}`;
/// - `fail`: fails, `{"reason": TEXT}`, and for good with `"permanent": true`;
/// - `flaky`: fails in the first N attempts, `{"fails": N}`; the result is `{"attempt": N}`;
/// - `resize`: scales a picture, see [`resize`](crate::resize());
/// - `crash`: takes its worker down with it.
pub fn handlers() -> Handlers {
    Handlers::new()
        .on("sleep", sleep)
        .on("fail", fail)
        .on("flaky", flaky)
        .on("resize", resize)
        .on("crash", crash)
}

/// Says what is wrong with the payload of a kind; `None` stands for a kind that is not known here.
///
/// # Errors
/// A text for whoever wrote the payload.
pub fn check(kind: &str, payload: &Value) -> Option<Result<(), String>> {
    Some(match kind {
        "sleep" => read::<Sleep>(payload).and_then(|sleep| sleep.check()),
        "fail" => read::<Fail>(payload).map(drop),
        "flaky" => read::<Flaky>(payload).map(drop),
        "resize" => Resize::read(payload).map(drop),
        "crash" => Ok(()),
        _ => return None,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sleep {
    millis: u64,
}

impl Sleep {
    fn check(&self) -> Result<(), String> {
        if self.millis > LONGEST_SLEEP {
            return Err(format!("`millis` is at most {LONGEST_SLEEP}"));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    reason: String,
    #[serde(default)]
    permanent: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flaky {
    fails: u32,
}

/// The payload of `resize`, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resize {
    /// A PNG or JPEG file.
    pub image: Vec<u8>,
    /// How wide the result is to be, in pixels.
    pub width: u32,
    /// How high; in proportion if nothing is said.
    pub height: Option<u32>,
}

impl Resize {
    /// Reads a payload.
    ///
    /// # Errors
    /// A text that says what is wrong with it.
    pub fn read(payload: &Value) -> Result<Resize, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Payload {
            image: String,
            width: u32,
            height: Option<u32>,
        }
        let payload: Payload = read(payload)?;
        let image = STANDARD.decode(&payload.image);
        Ok(Resize {
            image: image.map_err(|error| format!("`image` is not base64: {error}"))?,
            width: payload.width,
            height: payload.height,
        })
    }
}

fn read<T: DeserializeOwned>(payload: &Value) -> Result<T, String> {
    T::deserialize(payload).map_err(|error| error.to_string())
}

fn payload<T: DeserializeOwned>(context: &Context) -> Result<T, Failure> {
    read(context.payload()).map_err(Failure::Permanent)
}

async fn sleep(context: Context) -> Outcome {
    let millis = payload::<Sleep>(&context)?.millis;
    // A sleep of a few milliseconds is one: a timer is no more exact than that.
    let steps = (millis / 20).clamp(1, 100);
    for step in 1..=steps {
        let pause = millis * step / steps - millis * (step - 1) / steps;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        context.progress(u8::try_from(step * 100 / steps).unwrap_or(100));
    }
    Ok(json!({"slept": millis}))
}

async fn fail(context: Context) -> Outcome {
    let Fail { reason, permanent } = payload(&context)?;
    Err(if permanent {
        Failure::Permanent(reason)
    } else {
        Failure::Retry(reason)
    })
}

async fn flaky(context: Context) -> Outcome {
    let fails = payload::<Flaky>(&context)?.fails;
    if context.attempt() <= fails {
        return Err(Failure::Retry(format!(
            "attempt {} fails",
            context.attempt()
        )));
    }
    Ok(json!({"attempt": context.attempt()}))
}

/// As a bug in native code would.
async fn crash(_: Context) -> Outcome {
    std::process::abort()
}
