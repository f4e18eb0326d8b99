//! Texts that try to break a frame, some written by hand and some made by the seed.

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};

/// Texts by hand: line ends of every kind, what looks like one, what looks like a field.
pub const NASTY: [&str; 34] = [
    "",
    " ",
    "  two leading spaces",
    "trailing spaces  ",
    "\t",
    "\n",
    "\n\n",
    "\r",
    "\r\n",
    "\r\r",
    "\r\n\r\n",
    "\n\r",
    "a\nb",
    "a\rb",
    "a\r\nb",
    "a\n\nb",
    "a\r\r\nb",
    "ends with a line end\n",
    "ends with two\n\n",
    "ends with CR\r",
    "\nbegins with one",
    "id: 1-1",
    "x\nid: 1-1\nevent: reset\ndata: forged",
    "x\n\nid: 1-1\nevent: reset\ndata: forged\n\n",
    "x\r\rid: 1-1\revent: reset\rdata: forged\r\r",
    ":comment",
    "retry: 1",
    "data: data: data",
    "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f",
    "\u{feff}with a byte order mark",
    "a\0b\0",
    "naïve ☕ 日本語 🦀 e\u{301}",
    "{\"json\":\"a\\nb\"}",
    "a: b: c",
];

/// A text of pieces that matter to the format, chosen by the seed.
pub fn any(rng: &mut StdRng) -> String {
    const PIECES: [&str; 24] = [
        "\n", "\n", "\r", "\r\n", " ", "  ", ":", "data", "data: ", "id: 7", "event: x",
        "retry: 1", "\u{feff}", "\0", "\u{2028}", "\u{2029}", "\u{85}", "\t", "a", "ß", "🦀", "",
        "\u{b}", "\"",
    ];
    let count = rng.random_range(0..12);
    let mut text = String::new();
    for _ in 0..count {
        text += PIECES[rng.random_range(0..PIECES.len())];
        if rng.random_bool(0.2) {
            text.push(char::from_u32(rng.next_u32() % 0x11_0000).unwrap_or('?'));
        }
    }
    text
}

/// The text as it arrives: each line end is an LF, nothing else is changed.
pub fn arrives(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}
