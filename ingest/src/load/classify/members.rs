//! The members of a JSON object, each as it is written.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::text::scalar_text;

/// The members of an object as they are written, those with the same key one after another.
#[derive(Debug, Default)]
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| name == key)
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns keys and values in order.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, (Cow<'a, str>, &'a RawValue)> {
        self.0.iter()
    }

    /// Returns the last value of a key, as JSON parsers do.
    pub(super) fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// Returns the members of the object at a key.
    pub(super) fn object(&self, key: &str) -> Option<Members<'a>> {
        serde_json::from_str(self.get(key)?.get()).ok()
    }
}

/// Returns the text of the string at a key; none for other values.
pub(super) fn string_at<'a>(members: &Members<'a>, key: &str) -> Option<Cow<'a, str>> {
    members.get(key).filter(|value| value.get().starts_with('"')).map(scalar_text)
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(32);
                while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    members.push((scalar_text(key), value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}
