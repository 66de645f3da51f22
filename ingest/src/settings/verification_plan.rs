//! The plan for verifying a day of the domain.

use std::time::Duration;

use super::{Environment, SettingsError, problem};

/// The trail's files, and the place of the state between two invocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationPlan {
    /// `TRAIL`: the folder of the trail's files, such as `s3://BUCKET/AWSLogs/123456789012`.
    pub trail: String,
    /// `CHECKPOINTS`: the folder of states, such as `s3://BUCKET/verification/`.
    pub checkpoints: BucketFolder,
    /// `PAUSE_AFTER`: the seconds after which an invocation stores its state, 600 by default.
    pub pause_after: Duration,
    /// `LIST_PUBLIC_KEYS=true`: the function only adds CloudTrail's public keys to the request, for one that cannot reach
    /// CloudTrail.
    pub lists_public_keys: bool,
}

/// A folder of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketFolder {
    /// The bucket's name.
    pub bucket: String,
    /// The beginning of keys, with a slash at its end.
    pub prefix: String,
}

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    /// Returns the plan, or none without `TRAIL`.
    pub(super) fn verification_plan(&self) -> Result<Option<VerificationPlan>, SettingsError> {
        let Some(trail) = self.text("TRAIL") else { return Ok(None) };
        parse("TRAIL", &trail)?;
        let checkpoints = self.text("CHECKPOINTS").ok_or_else(|| problem("CHECKPOINTS", "is not set, and TRAIL is"))?;
        let pause_after = self.text("PAUSE_AFTER").map_or(Ok(PAUSE_AFTER), |text| {
            text.parse().map_err(|_| problem("PAUSE_AFTER", format!("{text:?} is no number of seconds")))
        });
        Ok(Some(VerificationPlan {
            trail,
            checkpoints: parse("CHECKPOINTS", &checkpoints)?,
            pause_after: Duration::from_secs(pause_after?),
            lists_public_keys: self.flag("LIST_PUBLIC_KEYS", false)?,
        }))
    }
}

fn parse(variable: &'static str, path: &str) -> Result<BucketFolder, SettingsError> {
    let place = path.strip_prefix("s3://").and_then(|place| place.split_once('/'));
    let place = place.filter(|(bucket, prefix)| !bucket.is_empty() && !prefix.is_empty());
    let (bucket, prefix) = place.ok_or_else(|| {
        problem(variable, format!("{path:?} is no folder of a bucket: write one like \"s3://BUCKET/FOLDER\""))
    })?;
    Ok(BucketFolder { bucket: bucket.to_owned(), prefix: format!("{}/", prefix.trim_end_matches('/')) })
}

/// Two thirds of the longest time that Lambda gives an invocation: the rest is for what is in flight, or for a scan.
const PAUSE_AFTER: u64 = 600;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<VerificationPlan>, SettingsError> {
        let value = |name: &str| variables.iter().find(|(variable, _)| *variable == name);
        Environment(|name: &str| value(name).map(|(_, value)| (*value).to_owned())).verification_plan()
    }

    #[test]
    fn plan_names_the_trail_and_the_checkpoints() {
        let trail = ("TRAIL", "s3://trail/AWSLogs/123456789012");
        let states = ("CHECKPOINTS", "s3://states/verification");
        let plan = read(&[trail, states, ("PAUSE_AFTER", "30"), ("LIST_PUBLIC_KEYS", "true")]);
        let checkpoints = BucketFolder { bucket: "states".to_owned(), prefix: "verification/".to_owned() };
        let expected = VerificationPlan {
            trail: trail.1.to_owned(),
            checkpoints: checkpoints.clone(),
            pause_after: Duration::from_secs(30),
            lists_public_keys: true,
        };
        assert_eq!(plan, Ok(Some(expected)));
        let plan = read(&[trail, ("CHECKPOINTS", "s3://states/verification/")]).unwrap().unwrap();
        assert_eq!((plan.checkpoints, plan.pause_after), (checkpoints, Duration::from_mins(10)));
        assert!(!plan.lists_public_keys);
        assert_eq!(read(&[]), Ok(None));
    }

    #[test]
    fn invalid_place_or_time_is_reported() {
        let (trail, states) = (("TRAIL", "s3://trail/AWSLogs"), ("CHECKPOINTS", "s3://states/verification"));
        for (variables, expected) in [
            (&[trail][..], "CHECKPOINTS: is not set, and TRAIL is"),
            (
                &[("TRAIL", "trail/AWSLogs"), states],
                "TRAIL: \"trail/AWSLogs\" is no folder of a bucket: write one like \"s3://BUCKET/FOLDER\"",
            ),
            (
                &[trail, ("CHECKPOINTS", "s3://states/")],
                "CHECKPOINTS: \"s3://states/\" is no folder of a bucket: write one like \"s3://BUCKET/FOLDER\"",
            ),
            (&[trail, states, ("PAUSE_AFTER", "10m")], "PAUSE_AFTER: \"10m\" is no number of seconds"),
        ] {
            assert_eq!(read(variables).unwrap_err().to_string(), expected);
        }
    }
}
