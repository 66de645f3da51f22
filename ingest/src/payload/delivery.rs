//! The JSON of one delivery of CloudWatch Logs.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::PayloadError;
use super::log_batch::{LogBatch, LogEvent, MAX_TIMESTAMP};
use crate::json::text::scalar_text;

/// Reads `json`; bytes that are no UTF-8 and surrogates that stand alone become U+FFFD, rather than fail the batch.
pub(super) fn read(json: &[u8], now: Timestamp) -> Result<LogBatch, PayloadError> {
    let json = match str::from_utf8(json) {
        Ok(json) => Cow::Borrowed(json),
        Err(_) => String::from_utf8_lossy(json),
    };
    let delivery: Delivery<'_> = serde_json::from_str(&json)?;
    let text = |value: Option<&RawValue>| value.map_or_else(String::new, |value| scalar_text(value).into_owned());
    // A control message tests the destination. Its one event is not an event of the log group.
    let is_control = delivery.message_type.is_some_and(|value| scalar_text(value) == "CONTROL_MESSAGE");
    let events = if is_control { Vec::new() } else { delivery.log_events.unwrap_or_default() };
    // Events without a time get that of the event before them; at the start, that of the first one with a time.
    let mut time = events.iter().find_map(|event| milliseconds(event.timestamp?)).unwrap_or(now.as_millisecond());
    let event = |event: &Event<'_>| {
        time = event.timestamp.and_then(milliseconds).unwrap_or(time);
        LogEvent {
            id: text(event.id),
            timestamp: time,
            message: text(event.message),
            extracted_fields: event.extracted_fields.as_ref().map(ExtractedFields::owned).unwrap_or_default(),
        }
    };
    Ok(LogBatch {
        owner: text(delivery.owner),
        log_group: text(delivery.log_group),
        log_stream: text(delivery.log_stream),
        events: events.iter().map(event).collect(),
    })
}

/// Parses a time of the years 1970 to 9999, which all engines accept: a number, or a string that contains one.
fn milliseconds(value: &RawValue) -> Option<i64> {
    let text = scalar_text(value);
    let text = text.trim();
    #[expect(clippy::cast_possible_truncation, reason = "a number that is out of range after this was so before")]
    let number = text
        .parse::<i64>()
        .ok()
        .or_else(|| text.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number as i64))?;
    (0..=MAX_TIMESTAMP).contains(&number).then_some(number)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delivery<'a> {
    #[serde(borrow)]
    message_type: Option<&'a RawValue>,
    #[serde(borrow)]
    owner: Option<&'a RawValue>,
    #[serde(borrow)]
    log_group: Option<&'a RawValue>,
    #[serde(borrow)]
    log_stream: Option<&'a RawValue>,
    #[serde(borrow)]
    log_events: Option<Vec<Event<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    extracted_fields: Option<ExtractedFields<'a>>,
}

/// Keys and values as they are written, in order.
struct ExtractedFields<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl ExtractedFields<'_> {
    /// Returns the fields as owned text, without those that are `null`, where the pattern found nothing.
    fn owned(&self) -> Vec<(String, String)> {
        let has_value = self.0.iter().filter(|(_, value)| value.get() != "null");
        has_value.map(|(key, value)| (scalar_text(key).into_owned(), scalar_text(value).into_owned())).collect()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ExtractedFields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = ExtractedFields<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(ExtractedFields(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}
