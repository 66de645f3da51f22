//! The age of the machine image: an instance of Amazon Linux 2023 has the packages of its release, and no update changes
//! them.

use std::time::{Duration, SystemTime};

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::report::Problem;

/// Returns the finding on the system that this `/etc/os-release` describes; none if its name has no release date.
pub(super) fn check(os_release: &str, now: SystemTime) -> Option<Result<String, Problem>> {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?.trim_matches('"');
    let version = name.strip_prefix("Amazon Linux ")?;
    let released: Date = version.rsplit_once('.')?.1.parse().ok()?;
    let released = TimeZone::UTC.to_timestamp(released.at(0, 0, 0, 0)).ok()?.as_second();
    let released = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(released).ok()?);
    let days = now.duration_since(released).unwrap_or_default().as_secs() / 86_400;
    let text = format!("{name} is {days} days old");
    if days < OLD_DAYS {
        return Some(Ok(text));
    }
    let advice = "Its packages lack the patches since then. Replace the instance from a newer image; in the stack: \
                  cloudformation/launch STACK --refresh, with GateImageId after a new image is built.";
    Some(Err(Problem::new(text, advice)))
}

/// The age from which `ImageAgeAlarm` of the stack goes off, too.
const OLD_DAYS: u64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the finding at noon of a day.
    fn on(day: &str, os_release: &str) -> Option<Result<String, Problem>> {
        check(os_release, httpdate::parse_http_date(&format!("{day} 2025 12:00:00 GMT")).unwrap())
    }

    const AMAZON: &str = "NAME=\"Amazon Linux\"\nVERSION=\"2023\"\nPRETTY_NAME=\"Amazon Linux 2023.6.20250218\"\n";

    #[test]
    fn release_of_sixty_days_is_old() {
        assert_eq!(on("Fri, 18 Apr", AMAZON).unwrap().unwrap(), "Amazon Linux 2023.6.20250218 is 59 days old");
        let problem = on("Sat, 19 Apr", AMAZON).unwrap().unwrap_err();
        assert_eq!(problem.text, "Amazon Linux 2023.6.20250218 is 60 days old");
        assert!(problem.advice.contains("cloudformation/launch STACK --refresh"), "{}", problem.advice);
    }

    #[test]
    fn release_of_tomorrow_has_no_age() {
        assert_eq!(on("Mon, 17 Feb", AMAZON).unwrap().unwrap(), "Amazon Linux 2023.6.20250218 is 0 days old");
    }

    #[test]
    fn system_without_a_release_date_has_no_finding() {
        for name in ["Debian GNU/Linux 12 (bookworm)", "Amazon Linux 2", "Amazon Linux 2023", "Amazon Linux 2023.6.x"] {
            assert!(on("Sat, 19 Apr", &format!("PRETTY_NAME=\"{name}\"\n")).is_none(), "{name}");
        }
        assert!(on("Sat, 19 Apr", "").is_none());
    }
}
