//! The event stream format, as the WHATWG's HTML standard defines it (section 9.2.6).

use std::time::Duration;

/// What a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An event was dispatched.
    Event(Event),
    /// A comment: the text after the colon.
    Comment(String),
    /// How long to wait before connecting again.
    Retry(Duration),
}

/// An event as a browser would dispatch it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Its type: `message` if the stream gave none.
    pub kind: String,
    /// Its data, with LF between the lines.
    pub data: String,
    /// The last id that the stream has given by now: this event's own or an earlier one's.
    pub last_id: String,
    /// The id that was given with this very event.
    pub id: Option<String>,
    /// The type as it was given with this event; `None` if it was not.
    pub given_kind: Option<String>,
}

/// Reads a stream in pieces of any size.
#[derive(Debug, Default)]
pub struct Parser {
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// The byte order mark may come only before the first line.
    begun: bool,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
    data: String,
    has_data: bool,
    kind: Option<String>,
    id: Option<String>,
    /// The id that the next dispatch makes the last one.
    id_buffer: String,
    last_id: String,
}

impl Parser {
    /// A parser for a connection that was opened with this last id.
    pub fn resuming(last_id: impl Into<String>) -> Self {
        let last_id = last_id.into();
        Parser {
            id_buffer: last_id.clone(),
            last_id,
            ..Parser::default()
        }
    }

    /// Reads on; puts what came to an end into `items`. What is incomplete at the end of the
    /// stream is thrown away, as the standard wants it.
    pub fn feed(&mut self, mut bytes: &[u8], items: &mut Vec<Item>) {
        loop {
            if self.after_cr && bytes.first() == Some(&b'\n') {
                bytes = &bytes[1..];
            }
            self.after_cr &= bytes.is_empty();
            let Some(end) = memchr::memchr2(b'\r', b'\n', bytes) else {
                self.line.extend_from_slice(bytes);
                return;
            };
            self.after_cr = bytes[end] == b'\r';
            if self.line.is_empty() {
                self.read_line(&bytes[..end], items);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.read_line(&line, items);
                line.clear();
                self.line = line;
            }
            bytes = &bytes[end + 1..];
        }
    }

    /// The id that a client sends when it connects again: that of the last dispatch.
    pub fn last_id(&self) -> &str {
        &self.last_id
    }

    /// True between two events: nothing of a next one has come.
    pub fn is_between_events(&self) -> bool {
        self.line.is_empty() && !self.has_data && self.kind.is_none() && self.id.is_none()
    }

    fn read_line(&mut self, mut line: &[u8], items: &mut Vec<Item>) {
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            items.extend(self.dispatch().map(Item::Event));
            return;
        }
        let (field, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        if field.is_empty() && line[0] == b':' {
            let text = String::from_utf8_lossy(value).into_owned();
            items.push(Item::Comment(text));
            return;
        }
        let value = value.strip_prefix(b" ").unwrap_or(value);
        // A line end is never a part of a character: line by line is as good as the whole.
        let value = String::from_utf8_lossy(value);
        match field {
            b"data" => {
                self.has_data = true;
                self.data.push_str(&value);
                self.data.push('\n');
            }
            b"event" => self.kind = Some(value.into_owned()),
            b"id" if !value.contains('\0') => {
                self.id_buffer.clear();
                self.id_buffer.push_str(&value);
                self.id = Some(value.into_owned());
            }
            b"retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                let millis = value.parse().unwrap_or(u64::MAX);
                items.push(Item::Retry(Duration::from_millis(millis)));
            }
            _ => {}
        }
    }

    fn dispatch(&mut self) -> Option<Event> {
        if self.last_id != self.id_buffer {
            self.last_id.clone_from(&self.id_buffer);
        }
        let (given_kind, id) = (self.kind.take(), self.id.take());
        if !std::mem::replace(&mut self.has_data, false) {
            return None;
        }
        let mut data = std::mem::take(&mut self.data);
        data.pop();
        let kind = match &given_kind {
            Some(kind) if !kind.is_empty() => kind.clone(),
            _ => "message".to_owned(),
        };
        Some(Event {
            kind,
            data,
            last_id: self.last_id.clone(),
            id,
            given_kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: impl AsRef<[u8]>) -> Vec<Item> {
        let mut items = Vec::new();
        Parser::default().feed(text.as_ref(), &mut items);
        items
    }

    fn events(text: impl AsRef<[u8]>) -> Vec<Event> {
        let events = parse(text).into_iter().filter_map(|item| match item {
            Item::Event(event) => Some(event),
            _ => None,
        });
        events.collect()
    }

    /// Type and data of each event.
    fn told(text: impl AsRef<[u8]>) -> Vec<(String, String)> {
        let events = events(text).into_iter();
        events.map(|event| (event.kind, event.data)).collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        list.iter().map(owned).collect()
    }

    #[test]
    fn the_standards_stock_ticker() {
        let text = "data: YHOO\ndata: +2\ndata: 10\n\n";
        assert_eq!(told(text), pairs(&[("message", "YHOO\n+2\n10")]));
    }

    #[test]
    fn the_standards_four_blocks() {
        let text = ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n";
        assert_eq!(parse(text)[0], Item::Comment(" test stream".to_owned()));
        let events = events(text);
        assert_eq!(events.len(), 3);
        assert_eq!(
            (&*events[0].data, &*events[0].last_id),
            ("first event", "1")
        );
        // An id without a value sets the last id to nothing.
        assert_eq!(
            (&*events[1].data, &*events[1].last_id),
            ("second event", "")
        );
        assert_eq!(events[1].id.as_deref(), Some(""));
        assert_eq!((&*events[2].data, &events[2].id), (" third event", &None));
    }

    #[test]
    fn the_standards_empty_events() {
        // The last block is not complete, and so it is thrown away.
        let text = "data\n\ndata\ndata\n\ndata:";
        assert_eq!(told(text), pairs(&[("message", ""), ("message", "\n")]));
    }

    #[test]
    fn the_standards_space_after_the_colon() {
        let text = "data:test\n\ndata: test\n\n";
        assert_eq!(
            told(text),
            pairs(&[("message", "test"), ("message", "test")])
        );
    }

    #[test]
    fn the_standards_types() {
        let text = "event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n";
        let expected = [("add", "73857293"), ("remove", "2153"), ("add", "113411")];
        assert_eq!(told(text), pairs(&expected));
    }

    #[test]
    fn every_kind_of_line_end_counts_once() {
        let expected = pairs(&[("a", "1\n2"), ("message", "3")]);
        for end in ["\n", "\r", "\r\n"] {
            let text = "event: a\ndata: 1\ndata: 2\n\ndata: 3\n\n".replace('\n', end);
            assert_eq!(told(&text), expected, "with {end:?}");
        }
        assert_eq!(
            told("data: 1\r\n\rdata: 2\n\r\n"),
            pairs(&[("message", "1"), ("message", "2")])
        );
        // CR and LF in two pieces are one line end; the line is read before the LF comes.
        let (mut parser, mut items) = (Parser::default(), Vec::new());
        parser.feed(b"data: 1\r", &mut items);
        parser.feed(b"", &mut items);
        parser.feed(b"\n\r", &mut items);
        assert_eq!(items.len(), 1);
        parser.feed(b"\ndata: 2\n\n", &mut items);
        assert_eq!(items.len(), 2);
    }

    #[test]
    fn one_byte_order_mark_is_passed_over_and_only_at_the_beginning() {
        assert_eq!(told("\u{feff}data: 1\n\n"), pairs(&[("message", "1")]));
        assert_eq!(told("\u{feff}\u{feff}data: 1\n\n"), []);
        assert_eq!(
            told("data: \u{feff}1\n\n\u{feff}data: 2\n\n"),
            pairs(&[("message", "\u{feff}1")])
        );
        let (mut parser, mut items) = (Parser::default(), Vec::new());
        for byte in "\u{feff}data: 1\n\n".bytes() {
            parser.feed(&[byte], &mut items);
        }
        assert_eq!(items.len(), 1);
    }

    #[test]
    fn unknown_fields_and_fields_in_other_letters_are_ignored() {
        let text = "Data: 1\nDATA: 2\ndata : 3\n data: 4\nfoo: 5\nfoo\ndata: 6\n\n";
        assert_eq!(told(text), pairs(&[("message", "6")]));
    }

    #[test]
    fn a_block_without_data_is_no_event_but_its_id_counts() {
        let text = "event: a\nid: 7\n\ndata: 1\n\n";
        let events = events(text);
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].kind, "message");
        assert_eq!((&*events[0].last_id, &events[0].id), ("7", &None));
    }

    #[test]
    fn an_id_counts_once_its_event_is_complete() {
        let (mut parser, mut items) = (Parser::resuming("1"), Vec::new());
        parser.feed(b"id: 2\ndata: x\n", &mut items);
        assert_eq!(parser.last_id(), "1");
        parser.feed(b"\n", &mut items);
        assert_eq!(parser.last_id(), "2");
    }

    #[test]
    fn an_id_with_nul_is_ignored() {
        let events = events("id: 1\ndata: a\n\nid: 2\0\ndata: b\0\n\n");
        assert_eq!((&*events[1].last_id, &*events[1].data), ("1", "b\0"));
        assert_eq!(events[1].id, None);
    }

    #[test]
    fn the_last_id_of_a_block_is_its_id() {
        assert_eq!(events("id: 1\nid: 2\ndata: a\nid: 3\n\n")[0].last_id, "3");
    }

    #[test]
    fn an_empty_type_is_a_message() {
        assert_eq!(
            told("event: a\nevent:\ndata: 1\n\n"),
            pairs(&[("message", "1")])
        );
    }

    #[test]
    fn retry_is_digits_and_nothing_else() {
        let text = "retry: 2000\nretry: 2s\nretry: -1\nretry:\nretry: 1.5\nretry:  7\nretry:9\n";
        let seconds = |millis| Item::Retry(Duration::from_millis(millis));
        assert_eq!(parse(text), [seconds(2000), seconds(9)]);
    }

    #[test]
    fn only_the_first_colon_and_one_space_are_taken_away() {
        assert_eq!(
            told("data:  a: b:c \n\n"),
            pairs(&[("message", " a: b:c ")])
        );
    }

    #[test]
    fn other_separators_end_no_line() {
        let text = "data: a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f\n\n";
        assert_eq!(
            told(text),
            pairs(&[("message", "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f")])
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(
            told(b"data: a\xFFb\xC3\n\n"),
            pairs(&[("message", "a\u{fffd}b\u{fffd}")])
        );
    }
}
