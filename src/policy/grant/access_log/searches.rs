//! Searches over all indices that reveal no document of the access log: by a point in time, or for names only.

use serde_json::Value;

use super::super::DenyReason;

/// Returns whether a search requests the names of indices only, as pages do that create an index pattern.
pub(super) fn asks_for_names_only(body: &Value) -> bool {
    let Some(members) = body.as_object() else { return false };
    members.len() == 2
        && members.get("size").and_then(Value::as_u64) == Some(0)
        && members.get("aggs").or_else(|| members.get("aggregations")).is_some_and(|aggregations| {
            aggregations.as_object().is_some_and(|named| !named.is_empty() && named.values().all(counts_indices))
        })
}

/// Returns whether an aggregation counts the documents of each index: `{"terms":{"field":"_index","size":200}}`.
fn counts_indices(aggregation: &Value) -> bool {
    let terms = aggregation.as_object().filter(|members| members.len() == 1).and_then(|members| members.get("terms"));
    terms.and_then(Value::as_object).is_some_and(|terms| {
        terms.get("field").is_some_and(|field| field == "_index")
            && terms.iter().all(|(name, value)| name == "field" || name == "size" && value.is_u64())
    })
}

/// Returns the identifier of a search's point in time.
pub(super) fn point_in_time(body: &Value) -> Option<&str> {
    body.get("pit")?.get("id")?.as_str()
}

/// Rejects a point in time of the access log, or of the results of asynchronous searches. Its identifier contains the names of the indices in base64.
pub(super) fn check_point_in_time(id: &str) -> Result<(), DenyReason> {
    let bytes = decode(id).ok_or(DenyReason::Unreadable)?;
    let names = |index: &str| memchr::memmem::find(&bytes, index.as_bytes()).is_some();
    if ["gate-", "async-search", "asynchronous-search"].into_iter().any(names) {
        Err(DenyReason::access_log(None))
    } else {
        Ok(())
    }
}

/// Decodes base64 with either alphabet, with or without padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 & 0xff_ffff | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap_or_default());
        }
    }
    Some(bytes)
}
