//! The parser of unambiguous JSON: it rejects duplicate members and prototype pollution.

use std::cell::Cell;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::content::READABLE;
use super::deny_reason::{DenyReason, shown};

/// Parses JSON without duplicate members and without names of JavaScript's prototypes.
///
/// Parsers differ in which of two duplicates they keep, so the server could act on another value than the one checked.
pub(super) fn parse(text: &[u8]) -> Result<Value, DenyReason> {
    let value = parse_once(text)?;
    reject_prototypes(&value)?;
    Ok(value)
}

/// Parses JSON without duplicate members, for the engine, which has no prototypes. Rejects more than [`READABLE`] bytes
/// and more than [`VALUES`] values.
pub(super) fn parse_once(text: &[u8]) -> Result<Value, DenyReason> {
    if text.len() > READABLE {
        return Err(DenyReason::TooLong);
    }
    let Unambiguous(value) = serde_json::from_slice(text).map_err(|error| explain(&error))?;
    Ok(value)
}

fn explain(error: &serde_json::Error) -> DenyReason {
    if error.is_data() && error.to_string().starts_with(MANY) { DenyReason::TooLong } else { DenyReason::Unreadable }
}

/// Passes values one after another to `check`, each parsed as [`parse_once`] does. In a text of more than [`READABLE`]
/// bytes each value has to be one line.
pub(super) fn check_each(text: &[u8], check: impl Fn(&Value) -> Result<(), DenyReason>) -> Result<(), DenyReason> {
    if text.len() > READABLE {
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        // The first line of an indented value is none.
        let parse = |line| parse_once(line).map_err(|_| DenyReason::TooLong);
        return lines.map(parse).try_for_each(|value| check(&value?));
    }
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<Unambiguous>();
    values.try_for_each(|value| {
        let Unambiguous(value) = value.map_err(|error| explain(&error))?;
        check(&value)
    })
}

/// Rejects a member or a string that names a JavaScript prototype (prototype pollution).
fn reject_prototypes(value: &Value) -> Result<(), DenyReason> {
    match value {
        Value::Array(items) => items.iter().try_for_each(reject_prototypes),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            if is_inherited(name) { Err(DenyReason::Prototype(shown(name))) } else { reject_prototypes(value) }
        }),
        // Some pages build object paths from strings.
        Value::String(text) if text == "constructor" || text == "prototype" || text.contains("__proto__") => {
            Err(DenyReason::Prototype(shown(text)))
        }
        _ => Ok(()),
    }
}

/// Returns whether an assignment below `name` changes a prototype of a JavaScript server (prototype pollution).
pub(super) fn is_inherited(name: &str) -> bool {
    name.split(['.', '[', ']']).any(|part| matches!(part, "__proto__" | "constructor" | "prototype"))
}

/// A value without duplicate members, of at most [`VALUES`] values.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Builder { left: &Cell::new(VALUES) }.deserialize(deserializer).map(Self)
    }
}

#[derive(Clone, Copy)]
struct Builder<'a> {
    /// The number of values that may still follow.
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Builder<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.left.set(self.left.get().checked_sub(1).ok_or_else(|| D::Error::custom(MANY))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Builder<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let value = access.next_value_seed(self)?;
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is there twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

/// The maximum number of values in one. Each takes 72 bytes, so 4 MiB of `0,0,0` would take 300 MiB.
const VALUES: usize = 256 * 1024;

const MANY: &str = "there are too many values";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unambiguous_json_is_parsed() {
        for text in [r#"{"a":[1,-2,0.5,true,null,"b"],"c":{"a":{}}}"#, "[]", "\"a constructor of\"", "1e400"] {
            assert_eq!(parse(text.as_bytes()).ok(), serde_json::from_str(text).ok(), "{text}");
        }
    }

    #[test]
    fn duplicate_member_is_rejected_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"\u0061":2}}]"#, "{", "", "{} {}"] {
            assert_eq!(parse(text.as_bytes()), Err(DenyReason::Unreadable), "{text}");
        }
    }

    #[test]
    fn prototype_pollution_is_rejected_at_any_depth() {
        for text in [
            r#"{"__proto__":{}}"#,
            r#"[{"a":{"constructor":1}}]"#,
            r#"{"a.prototype.b":1}"#,
            r#"{"id":"__proto__"}"#,
            r#"{"id":"constructor"}"#,
            r#"{"\u005f_proto__":1}"#,
        ] {
            assert!(matches!(parse(text.as_bytes()), Err(DenyReason::Prototype(_))), "{text}");
        }
    }

    #[test]
    fn number_of_values_is_bounded() {
        let list = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        assert!(parse(list(VALUES - 1).as_bytes()).is_ok());
        assert_eq!(parse(list(VALUES).as_bytes()), Err(DenyReason::TooLong));
        assert_eq!(check_each(list(VALUES).as_bytes(), |_| Ok(())), Err(DenyReason::TooLong));
        assert_eq!(check_each("[0]\n".repeat(VALUES).as_bytes(), |_| Ok(())), Ok(()));
        let members = (0..VALUES).map(|name| format!("\"{name}\":0")).collect::<Vec<_>>().join(",");
        assert_eq!(parse(format!("{{{members}}}").as_bytes()), Err(DenyReason::TooLong));
    }
}
