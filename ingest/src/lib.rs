//! CloudTrail into Elasticsearch or OpenSearch: an AWS Lambda function, and the same from a command line.
//!
//! The modules stand in the order of an event's life:
//!
//! 1. [`payload`] decodes what Lambda was called with into batches of log events.
//! 2. [`document`] turns a log event into the document to index, with the fields that [`promote`] adds.
//! 3. [`bulk`] makes `_bulk` bodies of documents, and reads the replies item by item.
//! 4. [`ledger`] keeps account of the documents and decides what is sent next.
//! 5. [`delivery`] sends it through a [`domain`] until every document is accounted for.
//! 6. [`invocation`] takes all these steps, and answers Lambda.
//!
//! [`load`] takes the same road from files. [`template`] prepares the domain, [`dashboards`] its Kibana, [`metrics`] tells CloudWatch what happened,
//! [`settings`] reads the environment.

pub mod payload;

pub mod document;
mod json;
pub mod promote;

pub mod bulk;

pub mod ledger;

pub mod delivery;
pub mod domain;

pub mod invocation;

pub mod metrics;
pub mod settings;
pub mod template;

pub mod load;
pub mod reload;

pub mod dashboards;
