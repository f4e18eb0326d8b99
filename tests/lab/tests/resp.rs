//! The parser of the wire: whatever the frames and wherever they are cut.

use lab::faults::Reply;
use lab::faults::resp::{KEEP, Parser};
use proptest::prelude::*;

fn line(text: &str) -> Vec<u8> {
    format!("{text}\r\n").into_bytes()
}

/// RESP as its specification writes it down.
fn encode(reply: &Reply) -> Vec<u8> {
    let all = |kind: char, length: usize, items: Vec<Vec<u8>>| {
        [line(&format!("{kind}{length}")), items.concat()].concat()
    };
    let each = |items: &[Reply]| items.iter().map(encode).collect::<Vec<_>>();
    match reply {
        Reply::Status(text) => line(&format!("+{text}")),
        Reply::Error(text) => line(&format!("-{text}")),
        Reply::Int(number) => line(&format!(":{number}")),
        Reply::Bulk(bytes) => [&line(&format!("${}", bytes.len()))[..], bytes, b"\r\n"].concat(),
        Reply::Nil => line("_"),
        Reply::Array(items) => all('*', items.len(), each(items)),
        Reply::Set(items) => all('~', items.len(), each(items)),
        Reply::Push(items) => all('>', items.len(), each(items)),
        Reply::Map(pairs) => {
            let items = pairs
                .iter()
                .flat_map(|(key, value)| [encode(key), encode(value)]);
            all('%', pairs.len(), items.collect())
        }
        Reply::Double(number) => line(&format!(",{number}")),
        Reply::Bool(yes) => line(if *yes { "#t" } else { "#f" }),
        Reply::BigNumber(digits) => line(&format!("({digits}")),
    }
}

/// The same with its strings cut.
fn cut(reply: &Reply) -> Reply {
    let each = |items: &[Reply]| items.iter().map(cut).collect();
    match reply {
        Reply::Bulk(bytes) => Reply::Bulk(bytes[..bytes.len().min(KEEP)].to_vec()),
        Reply::Array(items) => Reply::Array(each(items)),
        Reply::Set(items) => Reply::Set(each(items)),
        Reply::Push(items) => Reply::Push(each(items)),
        Reply::Map(pairs) => Reply::Map(pairs.iter().map(|(k, v)| (cut(k), cut(v))).collect()),
        other => other.clone(),
    }
}

fn replies() -> impl Strategy<Value = Reply> {
    let leaf = prop_oneof![
        "[ -~]{0,20}".prop_map(Reply::Status),
        "[A-Z]{3} [ -~]{0,20}".prop_map(Reply::Error),
        any::<i64>().prop_map(Reply::Int),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Reply::Bulk),
        proptest::collection::vec(any::<u8>(), 250..600).prop_map(Reply::Bulk),
        Just(Reply::Nil),
        any::<bool>().prop_map(Reply::Bool),
        (-1e9..1e9).prop_map(Reply::Double),
        "-?[0-9]{20,40}".prop_map(Reply::BigNumber),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let items = || proptest::collection::vec(inner.clone(), 0..6);
        prop_oneof![
            items().prop_map(Reply::Array),
            items().prop_map(Reply::Set),
            items().prop_map(Reply::Push),
            proptest::collection::vec((inner.clone(), inner.clone()), 0..4).prop_map(Reply::Map),
        ]
    })
}

/// Feeds the bytes in pieces; returns every frame and where it ended.
fn read(mut parser: Parser, bytes: &[u8], cuts: &[usize]) -> Vec<(usize, Reply)> {
    let mut frames = Vec::new();
    let mut at = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        while at < end {
            let (used, frame) = parser.feed(&bytes[at..end]).unwrap();
            at += used;
            match frame {
                Some(frame) => frames.push((at, frame)),
                None => assert_eq!(at, end, "without a frame everything is used"),
            }
        }
    }
    frames
}

/// What a frame of random bytes is cut at.
fn cuts(bytes: &[u8], chosen: &[prop::sample::Index]) -> Vec<usize> {
    let mut cuts: Vec<usize> = chosen
        .iter()
        .map(|index| index.index(bytes.len() + 1))
        .collect();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_are_read_wherever_they_are_cut(
        wanted in proptest::collection::vec(replies(), 1..6),
        chosen in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for reply in &wanted {
            bytes.extend(encode(reply));
            ends.push((bytes.len(), cut(reply)));
        }
        prop_assert_eq!(&read(Parser::replies(), &bytes, &cuts(&bytes, &chosen)), &ends);
        // And byte by byte.
        let everywhere: Vec<usize> = (1..bytes.len()).collect();
        prop_assert_eq!(&read(Parser::replies(), &bytes, &everywhere), &ends);
    }

    #[test]
    fn commands_of_the_client_library_are_read_back(
        words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..8),
        chosen in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut command = redis::Cmd::new();
        for word in &words {
            command.arg(word);
        }
        let bytes = command.get_packed_command();
        let wanted = Reply::Array(words.into_iter().map(Reply::Bulk).collect());
        let frames = read(Parser::requests(), &bytes, &cuts(&bytes, &chosen));
        prop_assert_eq!(frames, vec![(bytes.len(), cut(&wanted))]);
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in proptest::collection::vec(prop_oneof![Just(b'*'), Just(b'$'), Just(b'%'), Just(b'-'), Just(b'1'), Just(b'9'), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..60),
    ) {
        for mut parser in [Parser::requests(), Parser::replies()] {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let Ok((used, _)) = parser.feed(rest) else { break };
                prop_assert!(used > 0);
                rest = &rest[used..];
            }
        }
    }
}

#[test]
fn the_nulls_and_forms_that_have_no_value_of_their_own() {
    let one = |bytes: &[u8]| {
        let frames = read(Parser::replies(), bytes, &[]);
        assert_eq!(frames.len(), 1, "{frames:?}");
        frames[0].1.clone()
    };
    assert_eq!(one(b"$-1\r\n"), Reply::Nil);
    assert_eq!(one(b"*-1\r\n"), Reply::Nil);
    assert_eq!(one(b"=7\r\ntxt:abc\r\n"), Reply::Bulk(b"abc".to_vec()));
    assert_eq!(one(b"!7\r\nERR abc\r\n"), Reply::Error("ERR abc".into()));
    assert_eq!(one(b",inf\r\n"), Reply::Double(f64::INFINITY));
    // An attribute speaks about what follows it, also inside a list.
    assert_eq!(one(b"|1\r\n+ttl\r\n:5\r\n:1\r\n"), Reply::Int(1));
    assert_eq!(
        one(b"*2\r\n|0\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n"),
        Reply::Array(vec![Reply::Int(1), Reply::Int(2)])
    );
}

#[test]
fn inline_commands_are_words_between_blanks() {
    let words = |words: &[&str]| {
        Reply::Array(
            words
                .iter()
                .map(|w| Reply::Bulk(w.as_bytes().to_vec()))
                .collect(),
        )
    };
    let frames = read(Parser::requests(), b"set  a b\r\n\r\nping\n", &[4]);
    assert_eq!(
        frames,
        [
            (10, words(&["set", "a", "b"])),
            (12, words(&[])),
            (17, words(&["ping"]))
        ]
    );
}

#[test]
fn what_cannot_be_resp_is_refused() {
    for bytes in [
        &b"?\r\n"[..],
        b"\r\n",
        b":x\r\n",
        b"$-2\r\n",
        b"$99999999999999999999\r\n",
        b"*3000000000\r\n",
        &b"*1\r\n".repeat(100),
        &[b'+'; 100_000],
    ] {
        assert!(
            Parser::replies().feed(bytes).is_err(),
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
    }
}
