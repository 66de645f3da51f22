//! Sizes and durations in configuration syntax.

use std::time::Duration;

use bytesize::ByteSize;
use jiff::SignedDuration;
use serde::Deserialize;

/// Bytes, written as `"100 MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Size(pub(super) usize);

/// A duration above zero, written as `"30 s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Time(pub(super) Duration);

impl Size {
    pub(super) const fn mib(mebibytes: usize) -> Self {
        Self(mebibytes * 1024 * 1024)
    }
}

impl Time {
    pub(super) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // The library accepts a bare number, whose unit would be unclear to a reader.
        let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
        let size = text.parse::<ByteSize>().ok().filter(|_| has_unit);
        let bytes = size.and_then(|size| usize::try_from(size.as_u64()).ok());
        bytes
            .map(Self)
            .ok_or(format!("{text:?} is not a size: write a number and B, KiB, MiB or GiB, as in \"100 MiB\""))
    }
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Ok(time) = text.parse::<SignedDuration>() else {
            return Err(format!("{text:?} is not a duration: write a number and ms, s, min or h, as in \"30 s\""));
        };
        let time = Duration::try_from(time).ok().filter(|time| !time.is_zero());
        time.map(Self).ok_or("must be longer than nothing".to_owned())
    }
}
