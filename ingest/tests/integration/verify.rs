mod bucket;
mod domain;
mod month;
mod oracle;
