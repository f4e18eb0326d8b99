//! Colour where it can be seen, plain text elsewhere.

use owo_colors::{OwoColorize, Style};

/// Paints, or does not.
#[derive(Clone, Copy, Debug)]
pub struct Paint(pub bool);

impl Paint {
    /// What holds.
    pub fn good(self, text: &str) -> String {
        self.with(Style::new().green(), text)
    }

    /// What does not.
    pub fn bad(self, text: &str) -> String {
        self.with(Style::new().red(), text)
    }

    /// What is neither.
    pub fn dim(self, text: &str) -> String {
        self.with(Style::new().dimmed(), text)
    }

    /// What the eye should find first.
    pub fn strong(self, text: &str) -> String {
        self.with(Style::new().bold(), text)
    }

    /// What can be typed.
    pub fn command(self, text: &str) -> String {
        self.with(Style::new().cyan(), text)
    }

    fn with(self, style: Style, text: &str) -> String {
        match self.0 {
            true => text.style(style).to_string(),
            false => text.to_string(),
        }
    }
}
