//! Words of a line, in the notation of `logs.txt`: separated by spaces; a word that is not plain
//! printable ASCII without spaces and quotes is written as a JSON string.

/// A word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What it says.
    pub text: String,
    /// It was written as a JSON string, so it is data and no keyword.
    pub quoted: bool,
}

/// Why a line has no words. Correct the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// A JSON string without its end, or with an escape that JSON doesn't have.
    #[error("column {column}: not a JSON string: {cause}")]
    NotJson {
        /// Where the string begins, from 1, in characters.
        column: usize,
        /// What JSON says about it.
        cause: String,
    },
    /// Something follows a closing quote without a space between.
    #[error("column {column}: a space must follow the closing quote")]
    NoSpace {
        /// Where the space is missing, from 1, in characters.
        column: usize,
    },
}

/// The words of a line.
///
/// # Errors
/// See [`WordsError`].
pub fn split(line: &str) -> Result<Vec<Word>, WordsError> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let start = line.len() - rest.len();
        let length = if rest.starts_with('"') {
            let text = json_string(rest).map_err(|cause| WordsError::NotJson {
                column: column(line, start),
                cause,
            })?;
            words.push(Word {
                text: text.0,
                quoted: true,
            });
            text.1
        } else {
            let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
            words.push(Word {
                text: rest[..length].to_owned(),
                quoted: false,
            });
            length
        };
        let after = &rest[length..];
        if !after.is_empty() && !after.starts_with(char::is_whitespace) {
            return Err(WordsError::NoSpace {
                column: column(line, start + length),
            });
        }
        rest = after.trim_start();
    }
    Ok(words)
}

/// The string that `text` begins with, and its length in bytes, quotes included.
fn json_string(text: &str) -> Result<(String, usize), String> {
    let mut strings = serde_json::Deserializer::from_str(text).into_iter::<String>();
    match strings.next() {
        Some(Ok(string)) => Ok((string, strings.byte_offset())),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("nothing there".to_owned()),
    }
}

fn column(line: &str, byte: usize) -> usize {
    line[..byte].chars().count() + 1
}

/// `word` as it is written in a line.
#[must_use]
pub fn quote(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\'';
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    serde_json::Value::from(word).to_string()
}

/// A number of things: "1 fault", "2 faults".
#[must_use]
pub fn counted(number: u64, thing: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        let words = split(line).unwrap();
        words.into_iter().map(|word| word.text).collect()
    }

    /// Plain words and JSON strings stand beside each other.
    #[test]
    fn words_are_plain_or_json() {
        assert_eq!(texts("SET name1 Jaggu"), ["SET", "name1", "Jaggu"]);
        assert_eq!(
            texts(r#"SET "two words" "line\nbreak \u00e9" 1"#),
            ["SET", "two words", "line\nbreak é", "1"]
        );
        assert_eq!(texts("  GET \t k  "), ["GET", "k"]);
        assert_eq!(texts(""), Vec::<String>::new());
        assert_eq!(texts(r"back\slash it's"), [r"back\slash", "it's"]);
        assert!(split(r#""NONE""#).unwrap()[0].quoted);
    }

    /// A broken line is refused as a whole, and the place is named.
    #[test]
    fn a_broken_string_names_its_column() {
        let error = split(r#"SET "open"#).unwrap_err();
        assert!(
            matches!(error, WordsError::NotJson { column: 5, .. }),
            "{error:?}"
        );
        let error = split(r#"SET é"x "a"b"#).unwrap_err();
        assert_eq!(error, WordsError::NoSpace { column: 12 });
    }

    /// Whatever is written can be read back.
    #[test]
    fn quoting_is_undone_by_splitting() {
        for word in [
            "plain",
            "",
            "two words",
            "\"",
            "a\"b",
            "é",
            "\t",
            "\\",
            "\u{0}",
        ] {
            let words = split(&quote(word)).unwrap();
            assert_eq!(words.len(), 1, "{word:?}");
            assert_eq!(words[0].text, word);
        }
        assert_eq!(quote("Jaggu"), "Jaggu");
        assert_eq!(quote("two words"), r#""two words""#);
    }
}
