//! The first lines of a stub: what they tell the learner, and how the generator knows its own work again.

/// What begins every generated stub. The sixteen digits after it are the checksum of the text below the header.
const MARK: &str = "// Stub ";

/// Puts the header above a stub's text.
///
/// `exercise` is the name that the commands take, for the sentence that tells how to start again.
pub fn with_header(exercise: &str, text: &str) -> String {
    format!(
        "{MARK}{:016x}: this file is yours to write. `cargo xtask reset {exercise}` starts it again.\n\
         // Delete the next line once no `todo!` is left, and the compiler tells you what is left over.\n\
         #![allow(unused)]\n\
         \n\
         {text}",
        checksum(text)
    )
}

/// Whether `file` is a stub as some version of the generator wrote it: nobody has worked in it since.
pub fn is_untouched(file: &str) -> bool {
    let Some((header, text)) = file.split_once("#![allow(unused)]\n\n") else {
        return false;
    };
    let recorded = header
        .strip_prefix(MARK)
        .and_then(|rest| rest.split(':').next())
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    recorded == Some(checksum(text))
}

/// FNV-1a: the same on every system and for every version of the compiler, which the standard library's hasher is not.
fn checksum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_stub_is_known_again() {
        assert!(is_untouched(&with_header("stream-queue", "fn a() {}\n")));
    }

    #[test]
    fn an_edited_stub_is_the_learners() {
        let stub = with_header("stream-queue", "fn a() { todo!() }\n");
        assert!(!is_untouched(&stub.replace("todo!()", "1;")));
        assert!(!is_untouched(&stub.replace("#![allow(unused)]\n", "")));
        assert!(!is_untouched("fn a() {}\n"));
    }

    #[test]
    fn the_checksum_is_fnv_1a() {
        assert_eq!(checksum("a"), 0xaf63_dc4c_8601_ec8c);
    }
}
