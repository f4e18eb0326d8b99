//! Which ids are known, when only the last few events are kept. No sockets here.

use std::collections::VecDeque;

// ANCHOR: id
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id(u64, u64);

fn parse(text: &str) -> Option<Id> {
    let (ms, n) = text.split_once('-')?;
    let id = Id(ms.parse().ok()?, n.parse().ok()?);
    // "01-0" and "+1-0" can be read too, and are no ids of ours.
    (format!("{}-{}", id.0, id.1) == text).then_some(id)
}
// ANCHOR_END: id

pub fn run() {
    // ANCHOR: text
    println!("as text, 1000-10 < 1000-9: {}", "1000-10" < "1000-9");
    println!("as ids: {}", parse("1000-10") < parse("1000-9"));
    // ANCHOR_END: text

    // ANCHOR: known
    let kept: VecDeque<Id> =
        [Id(1000, 9), Id(1000, 10), Id(1004, 0), Id(1007, 0)].into();
    for last in ["1000-10", "1007-0", "1000-8", "1003-0", "1008-0", "7", "abc", ""]
    {
        let answer = match parse(last).map(|id| kept.binary_search(&id)) {
            _ if last.is_empty() => "live".to_owned(),
            Some(Ok(at)) => format!("replay {}", kept.len() - at - 1),
            Some(Err(_)) | None => format!("reset, then replay {}", kept.len()),
        };
        println!("{last:?}: {answer}");
    }
    // ANCHOR_END: known

    // ANCHOR: greater
    let after = |id: Id| kept.iter().filter(|other| **other > id).count();
    println!("after 900-0, which was long ago: {}", after(Id(900, 0)));
    println!("after 2000-0, from before the restart: {}", after(Id(2000, 0)));
    // ANCHOR_END: greater
}
