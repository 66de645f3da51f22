//! A second, simpler description of what engines reject.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::document::fit::UNMAPPED;

/// Any JSON in which no object has a key twice.
pub(super) struct Strict;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<Self>()?;
            if !keys.insert(key.clone()) {
                return Err(A::Error::custom(format!("{key:?} twice")));
            }
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }
}

/// Panics where a name of an indexed part would be refused, or leads into what is no object.
#[track_caller]
pub(super) fn assert_names(source: &Value) {
    for (name, value) in source.as_object().unwrap() {
        assert!(!["_id", "_source", "_type", "_index"].contains(&name.as_str()), "{source}");
        if !UNMAPPED.contains(&name.as_str()) {
            assert_below(value);
        }
    }
    assert_siblings(source);
}

#[track_caller]
fn assert_below(value: &Value) {
    match value {
        Value::Object(members) => {
            assert_siblings(value);
            members.values().for_each(assert_below);
        }
        Value::Array(values) => values.iter().for_each(assert_below),
        _ => {}
    }
}

#[track_caller]
fn assert_siblings(object: &Value) {
    let members = object.as_object().unwrap();
    for name in members.keys() {
        assert!(name.split('.').all(|step| !step.trim().is_empty()), "{name:?} in {object}");
        let mut above = name.as_str();
        while let Some((parent, _)) = above.rsplit_once('.') {
            assert!(!members.contains_key(parent), "{parent:?} and {name:?} in {object}");
            above = parent;
        }
    }
}
