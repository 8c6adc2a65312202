//! Hexadecimal encoding of signatures and tokens.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends two lowercase digits per byte. A string with enough capacity is not reallocated, so that no copy
/// of a secret remains in memory.
pub fn push(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 0xf] {
            text.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
}

/// Reads 32 bytes from exactly 64 digits in upper or lower case.
pub fn read(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_bytes_are_decoded_and_everything_else_is_rejected() {
        let bytes = std::array::from_fn(|n| u8::try_from(n * 8 + 7).unwrap());
        let mut text = String::new();
        push(&mut text, &bytes);
        assert!(text.starts_with("070f17") && text.len() == 64, "{text}");
        assert_eq!(read(&text), Some(bytes));
        assert_eq!(read(&text.to_uppercase()), Some(bytes));
        for invalid in [&text[1..], &format!("{text}0"), &text.replacen('0', "+", 1), &"ä".repeat(32), ""] {
            assert_eq!(read(invalid), None, "{invalid}");
        }
    }
}
