mod audit_report;
pub(crate) mod bucket;
mod cloudtrail;
mod domain;
mod edges;
pub(crate) mod evidence;
mod missing;
mod oracle;
mod resume;
