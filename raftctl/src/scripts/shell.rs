//! How a script is put together, as text. Pure.

/// The last line of every script that came to its end.
pub const END: &str = "end=ok";

/// Text as one word of a shell script, whatever is in it.
#[must_use]
pub fn quote(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@=%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A line that calls a function of a script.
pub fn call<'a>(function: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    let mut line = function.to_owned();
    for word in words {
        line.push(' ');
        line.push_str(&quote(word));
    }
    line
}
