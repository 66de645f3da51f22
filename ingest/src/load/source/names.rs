//! Files that are skipped by their names. A file that is named on the command line is read whatever its name is.

use crate::load::classify::foreign;

/// Returns the reason to skip a file of a folder or a bucket, if its name has one.
///
/// Files without an ending are read: Firehose's objects have none.
pub(super) fn reason_to_skip(path: &str) -> Option<&'static str> {
    if let Some(kind) = foreign::kind_of_path(path) {
        return Some(kind);
    }
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    if name.starts_with('.') {
        return Some("hidden files");
    }
    let (_, ending) = name.rsplit_once('.')?;
    let is_ending = !ending.is_empty() && ending.len() <= 8 && ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    // `…_20260131T1200Z.2`, and names with a date or an address at the end.
    let is_number = ending.bytes().all(|byte| byte.is_ascii_digit());
    let is_log = ENDINGS.iter().any(|log| log.eq_ignore_ascii_case(ending));
    (is_ending && !is_number && !is_log).then_some("not a log file by its name")
}

/// The endings of files that are read, in any case of letters; compressed ones are read or named as such.
const ENDINGS: [&str; 13] =
    ["json", "jsonl", "ndjson", "log", "logs", "gz", "gzip", "zst", "bz2", "zip", "xz", "tar", "tgz"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_file_is_recognised_by_extension_and_folder() {
        for (path, reason) in [
            ("a.json", None),
            ("a.JSON", None),
            ("a.json.gz", None),
            ("a.log", None),
            ("a.ndjson", None),
            ("a.zst", None),
            ("a.tgz", None),
            ("trail-1-2026-03-04-05-06-07-0a1b", None),
            ("trail-1.2", None),
            ("notes.txt", Some("not a log file by its name")),
            ("table.parquet", Some("not a log file by its name")),
            (".DS_Store", Some("hidden files")),
            ("s3://b/AWSLogs/111122223333/Config/eu-west-1/a.json.gz", Some("AWS Config items")),
            ("AWSLogs/o-abc/111122223333/vpcflowlogs/eu-west-1/a.log.gz", Some("VPC flow logs")),
            ("AWSLogs/111122223333/CloudTrail/eu-west-1/a.json.gz", None),
            ("AWSLogs/111122223333/CloudTrail/ConfigWritabilityCheckFile", None),
        ] {
            assert_eq!(reason_to_skip(path), reason, "{path}");
        }
    }
}
