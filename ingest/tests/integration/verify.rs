mod audit_report;
mod bucket;
mod cloudtrail;
mod domain;
mod missing;
mod month;
mod oracle;
mod resume;
