//! Patterns: which events a subscription is for.

use crate::error::Error;

// solution only
use crate::event::{LONGEST_NAME, is_word};
// end solution only

/// A name of an event in which each whole word may also be `*`, which stands for exactly one word,
/// or `#`, which stands for any number of words, none included.
///
/// `order.*` matches `order.placed`, and neither `order` nor `order.item.added`; `order.#` matches
/// all three. `#` matches every name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    // solution only
    words: Vec<Word>,
    // end solution only
}

impl Pattern {
    /// Reads a pattern: 1 to 255 bytes, words joined by single dots, each as in a name, or `*`, or
    /// `#`. So `or*` is none, and neither is `order.` or a text with a space.
    ///
    /// # Errors
    /// [`Error::BadPattern`] if the text is none.
    pub fn new(text: &str) -> Result<Pattern, Error> {
        // stub stage 5: split at the dots; each word is a word, * or #
        let words = text.split('.').map(|word| match word {
            "*" => Some(Word::One),
            "#" => Some(Word::Any),
            word => is_word(word).then(|| Word::Exactly(word.to_owned())),
        });
        match words.collect::<Option<Vec<_>>>() {
            Some(words) if text.len() <= LONGEST_NAME => Ok(Pattern { words }),
            _ => Err(Error::BadPattern(text.to_owned())),
        }
        // end stub
    }

    /// Whether a name matches, word by word. It takes no longer than the number of words in the
    /// pattern times that of words in the name, whatever the pattern: `#.a.#.a.#.a` too.
    pub fn matches(&self, name: &str) -> bool {
        // stub stage 5: word by word; if it does not fit, let the last # take one word more
        let name: Vec<&str> = name.split('.').collect();
        let (mut at, mut done) = (0, 0);
        // The last # so far: its place in the pattern, and up to where in the name it reaches.
        let mut last_any = None;
        while done < name.len() {
            match self.words.get(at) {
                Some(Word::Any) => {
                    last_any = Some((at, done));
                    at += 1;
                    continue;
                }
                Some(Word::One) => {
                    at += 1;
                    done += 1;
                    continue;
                }
                Some(Word::Exactly(word)) if word == name[done] => {
                    at += 1;
                    done += 1;
                    continue;
                }
                _ => {}
            }
            // It does not fit. An earlier # need not be tried again: what it could take more, the
            // last one can take as well.
            let Some((any, reaches)) = last_any else {
                return false;
            };
            last_any = Some((any, reaches + 1));
            at = any + 1;
            done = reaches + 1;
        }
        self.words[at..].iter().all(|word| *word == Word::Any)
        // end stub
    }
}

// solution only
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    /// This word.
    Exactly(String),
    /// `*`
    One,
    /// `#`
    Any,
}
// end solution only
