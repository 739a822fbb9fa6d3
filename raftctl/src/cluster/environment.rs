//! `${VAR}` and `${VAR:-default}` in the values of cluster.yaml.
//!
//! Variables are filled into values after parsing, never into the text of the file: whatever a
//! variable holds, it stays one value, and lines stay where they are. `$${` is a literal `${`.

/// Looks up a variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A text with its variables filled in.
#[derive(Debug, PartialEq, Eq)]
pub struct Filled {
    /// The text.
    pub text: String,
    /// Whether there were any.
    pub has_variables: bool,
}

/// Why a text can't be filled in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// The variable is not set, or empty, and there is no default.
    #[error("the environment variable {0} is not set")]
    Unset(String),
    /// `${` without `}`, or with something that is no name of a variable.
    #[error("{0:?} is not a variable")]
    Malformed(String),
}

impl FillError {
    /// Whether a variable is missing, rather than written wrongly.
    #[must_use]
    pub fn is_unset(&self) -> bool {
        matches!(self, FillError::Unset(_))
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            FillError::Unset(name) => format!("export {name}=... or write ${{{name}:-default}}"),
            FillError::Malformed(_) => {
                "write ${NAME} or ${NAME:-default}, and $${ for a literal ${".into()
            }
        }
    }
}

/// Fills in the variables of a text.
///
/// # Errors
/// A variable that is missing or malformed; the first of them.
pub fn fill(text: &str, environment: Environment<'_>) -> Result<Filled, FillError> {
    let mut result = String::with_capacity(text.len());
    let mut has_variables = false;
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            result.push_str(&rest[..at - 1]);
            result.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        result.push_str(&rest[..at]);
        let end = rest[at..].find('}');
        let end = end.ok_or_else(|| FillError::Malformed(rest[at..].into()))? + at;
        result.push_str(&variable(&rest[at + 2..end], environment)?);
        has_variables = true;
        rest = &rest[end + 1..];
    }
    result.push_str(rest);
    Ok(Filled {
        text: result,
        has_variables,
    })
}

/// The value of `NAME` or `NAME:-default`. An empty variable counts as unset, as in the shell.
fn variable(inside: &str, environment: Environment<'_>) -> Result<String, FillError> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err(FillError::Malformed(format!("${{{inside}}}")));
    }
    match (environment(name), default) {
        (Some(value), _) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.into()),
        (_, None) => Err(FillError::Unset(name.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "SET" => Some("value".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn text(of: &str) -> Result<String, FillError> {
        fill(of, &environment).map(|filled| filled.text)
    }

    // A variable is filled in wherever it stands, and a default where it is missing or empty.
    #[test]
    fn variables_are_filled_in() {
        assert_eq!(text("a ${SET}-${SET} b").unwrap(), "a value-value b");
        assert_eq!(text("${NONE:-x y}${EMPTY:-z}").unwrap(), "x yz");
        assert_eq!(text("${NONE:-}").unwrap(), "");
        assert_eq!(text("plain $SET").unwrap(), "plain $SET");
        assert_eq!(text("$${SET}").unwrap(), "${SET}");
        assert!(!fill("plain", &environment).unwrap().has_variables);
    }

    // A missing variable and a malformed one are told apart.
    #[test]
    fn what_cannot_be_filled_in_is_named() {
        assert_eq!(text("${NONE}"), Err(FillError::Unset("NONE".into())));
        assert_eq!(text("${EMPTY}"), Err(FillError::Unset("EMPTY".into())));
        for wrong in ["${", "${}", "${A-B}", "${1A}", "${A:-x"] {
            assert!(
                matches!(text(wrong), Err(FillError::Malformed(_))),
                "{wrong}"
            );
        }
    }
}
