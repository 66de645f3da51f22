//! CloudTrail into Elasticsearch or OpenSearch: an AWS Lambda function, and the same from a command line.
//!
//! An event's way through the modules, each of which uses only those below it in this list:
//!
//! 1. [`function`] runs one invocation of the Lambda function; [`load`] runs the same steps for files, and [`verify`] compares
//!    the index with the files.
//! 2. [`delivery`] sends documents through a [`domain`] until each is accounted for: `delivery::bulk` builds `_bulk` bodies
//!    and reads the responses item by item, `delivery::ledger` decides what is sent next.
//! 3. [`setup`] installs the index template and the retention policy, `setup::roles` the roles of a domain with fine-grained
//!    access control, [`dashboards`] the saved objects of Kibana.
//! 4. [`domain`] sends signed requests; [`settings`] parses the environment; [`engine`] names the server that the domain runs.
//! 5. [`document`] turns a log event into the document to index; `document::extract` adds the promoted fields.
//! 6. [`payload`] decodes the payload of an invocation into batches of log events.
//! 7. `json` parses a JSON text into a tape of its values.

pub mod function;
pub mod load;
pub mod verify;

pub mod dashboards;
pub mod delivery;
pub mod setup;

pub mod domain;
pub mod engine;
pub mod settings;

pub mod document;

pub mod payload;

mod json;
