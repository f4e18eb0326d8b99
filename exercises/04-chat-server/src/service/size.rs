//! Sizes as people write them: `65536`, `64KiB`, `1MB`.

/// The number of bytes that `text` names.
pub fn parse(text: &str) -> Result<usize, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err("give a number of bytes, such as 65536, 64KiB or 1MiB".into()),
    };
    let number: usize = number
        .parse()
        .map_err(|_| "give a number of bytes, such as 65536, 64KiB or 1MiB".to_owned())?;
    match number.checked_mul(factor) {
        Some(0) => Err("must be at least 1".into()),
        Some(bytes) => Ok(bytes),
        None => Err("too large".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("1", 1),
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("64 kib", 65_536),
            ("1MB", 1_000_000),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "KiB", "-1", "1.5MiB", "0", "64XiB", "99999999999GiB"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
