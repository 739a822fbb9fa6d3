//! Terraform's values, to and from MessagePack (the protocol) and JSON (saved state).
//!
//! On the wire an object is a MessagePack map, a list or set an array, and a value that is not
//! known yet an extension value, whatever its type number: Terraform may refine what it knows of
//! an unknown value, and this provider asks only whether it is known.

use std::collections::BTreeMap;

use rmpv::Value as MessagePack;

/// A value of a resource, or of a part of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Not given.
    Null,
    /// Decided when the change is applied.
    Unknown,
    /// `true` or `false`.
    Bool(bool),
    /// Any number; the resources here use integers below 2^53 alone.
    Number(f64),
    /// Text.
    String(String),
    /// A list or a set.
    List(Vec<Value>),
    /// An object or a map.
    Object(BTreeMap<String, Value>),
}

/// A value on the wire that this provider can't read.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// The bytes are no MessagePack.
    #[error("not MessagePack: {0}")]
    MessagePack(#[from] rmpv::decode::Error),
    /// The bytes are no JSON.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A kind of value that Terraform does not send for these resources.
    #[error("unexpected kind of value: {0}")]
    Kind(String),
    /// The value could not be written.
    #[error("cannot encode a value: {0}")]
    Encode(#[from] rmpv::encode::Error),
}

static NULL: Value = Value::Null;

impl Value {
    /// Reads MessagePack; no bytes at all are null.
    ///
    /// # Errors
    /// When the bytes are not what Terraform sends.
    pub fn from_message_pack(mut bytes: &[u8]) -> Result<Value, ValueError> {
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        decode(rmpv::decode::read_value(&mut bytes)?)
    }

    /// Writes MessagePack.
    ///
    /// # Errors
    /// Never in practice: the bytes go to memory.
    pub fn to_message_pack(&self) -> Result<Vec<u8>, ValueError> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &encode(self))?;
        Ok(bytes)
    }

    /// A value as the state file holds it.
    #[must_use]
    pub fn from_json(json: &serde_json::Value) -> Value {
        use serde_json::Value as Json;
        match json {
            Json::Null => Value::Null,
            Json::Bool(flag) => Value::Bool(*flag),
            Json::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
            Json::String(text) => Value::String(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(Value::from_json).collect()),
            Json::Object(members) => Value::Object(
                members
                    .iter()
                    .map(|(name, member)| (name.clone(), Value::from_json(member)))
                    .collect(),
            ),
        }
    }

    /// The value as JSON.
    ///
    /// # Panics
    /// When a part is unknown: only settled values are saved.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Value::Null => Json::Null,
            Value::Unknown => panic!("an unknown value can't be saved"),
            Value::Bool(flag) => Json::Bool(*flag),
            Value::Number(number) => integer(*number).map_or(Json::from(*number), Json::from),
            Value::String(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Value::to_json).collect()),
            Value::Object(members) => Json::Object(
                members
                    .iter()
                    .map(|(name, member)| (name.clone(), member.to_json()))
                    .collect(),
            ),
        }
    }

    /// Whether nothing is given.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// A member of an object; null where there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> &Value {
        match self {
            Value::Object(members) => members.get(name).unwrap_or(&NULL),
            _ => &NULL,
        }
    }

    /// An element of a list; null where there is none.
    #[must_use]
    pub fn at(&self, index: usize) -> &Value {
        self.items().get(index).unwrap_or(&NULL)
    }

    /// Sets a member of an object.
    ///
    /// # Panics
    /// When this is no object.
    pub fn set(&mut self, name: &str, value: Value) {
        match self {
            Value::Object(members) => members.insert(name.into(), value),
            other => panic!("{other:?} has no members"),
        };
    }

    /// The elements of a list; none for anything else.
    #[must_use]
    pub fn items(&self) -> &[Value] {
        match self {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The text, where it is text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, where it is one.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// An empty object.
    #[must_use]
    pub fn object() -> Value {
        Value::Object(BTreeMap::new())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Bool(flag)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Number(f64::from(number))
    }
}

/// The number as an integer, where it is one. Doubles hold integers below 2^53 exactly.
#[allow(clippy::cast_possible_truncation)] // guarded by the bound
fn integer(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
}

fn decode(value: MessagePack) -> Result<Value, ValueError> {
    Ok(match value {
        MessagePack::Nil => Value::Null,
        MessagePack::Ext(_, _) => Value::Unknown,
        MessagePack::Boolean(flag) => Value::Bool(flag),
        MessagePack::Integer(number) => Value::Number(
            number
                .as_f64()
                .ok_or_else(|| ValueError::Kind(number.to_string()))?,
        ),
        MessagePack::F32(number) => Value::Number(f64::from(number)),
        MessagePack::F64(number) => Value::Number(number),
        MessagePack::String(text) => Value::String(
            text.into_str()
                .ok_or_else(|| ValueError::Kind("text that is not UTF-8".into()))?,
        ),
        MessagePack::Array(items) => {
            Value::List(items.into_iter().map(decode).collect::<Result<_, _>>()?)
        }
        MessagePack::Map(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, member)| match decode(name)? {
                    Value::String(name) => Ok((name, decode(member)?)),
                    other => Err(ValueError::Kind(format!(
                        "a key that is no text: {other:?}"
                    ))),
                })
                .collect::<Result<_, _>>()?,
        ),
        MessagePack::Binary(_) => return Err(ValueError::Kind("binary data".into())),
    })
}

fn encode(value: &Value) -> MessagePack {
    match value {
        Value::Null => MessagePack::Nil,
        // Terraform writes an unknown value as extension 0 with one zero byte.
        Value::Unknown => MessagePack::Ext(0, vec![0]),
        Value::Bool(flag) => MessagePack::from(*flag),
        Value::Number(number) => {
            integer(*number).map_or(MessagePack::from(*number), MessagePack::from)
        }
        Value::String(text) => MessagePack::from(text.as_str()),
        Value::List(items) => MessagePack::Array(items.iter().map(encode).collect()),
        Value::Object(members) => MessagePack::Map(
            members
                .iter()
                .map(|(name, member)| (MessagePack::from(name.as_str()), encode(member)))
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What Terraform sends comes back as it was, unknown parts included.
    #[test]
    fn a_value_survives_the_wire() {
        let mut value = Value::object();
        value.set("name", "raft-demo".into());
        value.set("size", 10u32.into());
        value.set("ratio", Value::Number(0.5));
        value.set("self_link", Value::Unknown);
        value.set("image", Value::Null);
        value.set("tags", Value::List(vec!["raft".into(), true.into()]));
        let bytes = value.to_message_pack().unwrap();
        assert_eq!(Value::from_message_pack(&bytes).unwrap(), value);
    }

    // Terraform may say more about an unknown value (extension 12); it stays unknown.
    #[test]
    fn a_refined_unknown_is_unknown() {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &MessagePack::Ext(12, vec![0x81, 1, 0xc2])).unwrap();
        assert_eq!(Value::from_message_pack(&bytes).unwrap(), Value::Unknown);
    }

    // Whole numbers are saved as such: Terraform compares 10 and 10.0 as text in places.
    #[test]
    fn whole_numbers_are_saved_whole() {
        assert_eq!(Value::Number(10.0).to_json().to_string(), "10");
        assert_eq!(Value::Number(0.5).to_json().to_string(), "0.5");
    }

    // Bytes that are no value are an error, never a wrong value.
    #[test]
    fn garbage_is_refused() {
        assert!(Value::from_message_pack(&[0x92, 0x01]).is_err());
        assert!(Value::from_message_pack(&[0x81, 0x01, 0x02]).is_err());
    }
}
