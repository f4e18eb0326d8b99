//! What a check reports when it is not content.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The candidate did not keep the promise.
    Violated,
    /// The machine, not the candidate: no broker, no memory, a clock that stood still.
    Infrastructure,
}

/// The parts of a [`Failure`].
#[derive(Debug, Clone)]
pub struct Details {
    /// What the candidate was held to. Filled in from [`Lab::promise`](crate::Lab::promise).
    pub promise: Option<String>,
    /// What was seen instead.
    pub observed: String,
    /// The mistake in the atlas that this looks like, such as `SQ03`.
    pub code: Option<&'static str>,
    /// Whose fault it is.
    pub kind: Kind,
    /// The history that proves it, drawn as text.
    pub history: Option<String>,
    /// The same as a picture for a browser: the text of an SVG or HTML file.
    pub picture: Option<String>,
}

/// A check's objection. The parts are in a box, so that results stay small.
#[derive(Debug, Clone)]
pub struct Failure(Box<Details>);

impl Failure {
    /// The candidate broke the promise; `text` says what was seen.
    pub fn observed(text: impl Into<String>) -> Self {
        Failure::new(Kind::Violated, text.into())
    }

    /// Nothing can be said about the candidate, because of `text`. Costs no points.
    pub fn infrastructure(text: impl Into<String>) -> Self {
        Failure::new(Kind::Infrastructure, text.into())
    }

    fn new(kind: Kind, observed: String) -> Self {
        Failure(Box::new(Details {
            promise: None,
            observed,
            code: None,
            kind,
            history: None,
            picture: None,
        }))
    }

    /// Names the mistake in the atlas. A code that is there already is replaced.
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Names the mistake in the atlas, if one is given and none is named yet.
    pub fn code_if(mut self, code: impl Code) -> Self {
        self.code = self.code.or(code.code());
        self
    }

    /// Adds a sentence to what was seen.
    pub fn also(mut self, text: impl AsRef<str>) -> Self {
        self.observed.push_str("; ");
        self.observed.push_str(text.as_ref());
        self
    }

    /// Adds the history that proves it, drawn as text.
    pub fn history(mut self, diagram: impl Into<String>) -> Self {
        self.history = Some(diagram.into());
        self
    }

    /// Adds a picture of the history: the text of an SVG or HTML file.
    pub fn picture(mut self, markup: impl Into<String>) -> Self {
        self.picture = Some(markup.into());
        self
    }
}

impl Deref for Failure {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.0
    }
}

impl DerefMut for Failure {
    fn deref_mut(&mut self) -> &mut Details {
        &mut self.0
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.observed)
    }
}

/// An error of the candidate's API, or of one of the lab's own commands, ends the check.
/// Should the broker be gone, the judge notices that by itself and blames nobody.
impl<E> From<E> for Failure
where
    E: std::error::Error + Send + Sync + 'static,
{
    fn from(error: E) -> Self {
        let mut text = format!("an operation returned an error: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Many errors print their cause themselves.
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        Failure::observed(text)
    }
}

/// Something that may name a mistake: a code, or perhaps one.
pub trait Code {
    /// The code, if there is one.
    fn code(self) -> Option<&'static str>;
}

impl Code for &'static str {
    fn code(self) -> Option<&'static str> {
        // Catches `fail!("seen {}", "text")`, which reads as code and text.
        let looks_right = matches!(self.as_bytes(), [a, b, c, d]
            if a.is_ascii_uppercase() && b.is_ascii_uppercase() && c.is_ascii_digit() && d.is_ascii_digit());
        assert!(
            looks_right,
            "`{self}` is not a code of the atlas: two capitals and two digits"
        );
        Some(self)
    }
}

impl Code for Option<&'static str> {
    fn code(self) -> Option<&'static str> {
        self.and_then(Code::code)
    }
}

/// Ends the check with a [`Failure`]: `fail!("seen: {x}")`, or with the code of the mistake
/// it looks like in front: `fail!("SQ03", "seen: {x}")`. The code may be any expression
/// that is a `&'static str` or an `Option` of one.
#[macro_export]
macro_rules! fail {
    ($code:expr, $text:literal $(, $($rest:tt)*)?) => {
        return ::core::result::Result::Err(
            $crate::Failure::observed(format!($text $(, $($rest)*)?)).code_if($code),
        )
    };
    ($text:literal $(, $($rest:tt)*)?) => {
        return ::core::result::Result::Err(
            $crate::Failure::observed(format!($text $(, $($rest)*)?)),
        )
    };
}

/// Ends the check with a [`Failure`] unless the condition holds; what follows the condition
/// is as in [`fail!`].
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($failure:tt)+) => {
        if !$condition {
            $crate::fail!($($failure)+);
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(n: u32) -> Result<(), Failure> {
        let code = (n == 3).then_some("SQ02");
        crate::ensure!(n != 1, "SQ01", "saw {n}");
        crate::ensure!(n != 2, "saw {}", n);
        crate::ensure!(n != 3, code, "saw {n} and {}", n + 1);
        if n == 4 {
            crate::fail!(code, "saw {n}");
        }
        Ok(())
    }

    #[test]
    fn a_failure_carries_its_text_and_its_code() {
        let said = |n| judged(n).map_err(|failure| (failure.observed.clone(), failure.code));
        assert_eq!(said(0), Ok(()));
        assert_eq!(said(1), Err(("saw 1".into(), Some("SQ01"))));
        assert_eq!(said(2), Err(("saw 2".into(), None)));
        assert_eq!(said(3), Err(("saw 3 and 4".into(), Some("SQ02"))));
        assert_eq!(said(4), Err(("saw 4".into(), None)));
    }

    #[test]
    fn a_code_that_is_there_is_kept() {
        let failure = Failure::observed("seen")
            .code("SQ01")
            .code_if("SQ02")
            .also("and more");
        assert_eq!(failure.code, Some("SQ01"));
        assert_eq!(failure.observed, "seen; and more");
    }

    #[test]
    #[should_panic(expected = "is not a code")]
    fn a_text_is_not_taken_for_a_code() {
        let _ = Failure::observed("seen").code_if("seen {}");
    }
}
