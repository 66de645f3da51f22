mod audit_report;
pub(crate) mod bucket;
mod cloudtrail;
mod domain;
mod edges;
mod missing;
pub(crate) mod month;
mod oracle;
mod resume;
