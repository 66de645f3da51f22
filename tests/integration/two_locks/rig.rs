//! An engine with the security plug-in behind the stand-in domain, and the program in front.

use std::fmt::Write as _;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use fake_domain::{FakeDomain, Options};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use trailgate_ingest::domain::Domain;
use trailgate_ingest::settings::Settings;
use trailgate_ingest::setup::roles::map_roles;
use trailgate_testkit::{Engine, signing_key};

use crate::roles::{Roles, arn, entry, role_line};
use crate::support::{Connection, json as body, request};

/// The clients' addresses, 127.0.0.NUMBER.
pub(super) const MASTER: u8 = 1;
pub(super) const READER: u8 = 2;
/// Its entry has `access = "full"`, which switches the route table off, and the auditor's role.
pub(super) const UNLOCKED: u8 = 3;
pub(super) const THIRD_PARTY: u8 = 4;
pub(super) const EDITOR: u8 = 5;
pub(super) const READING_EDITOR: u8 = 6;
/// A third party by the example of the documentation.
pub(super) const CONTRACTOR: u8 = 7;

/// An engine with the security plug-in, of `tests/engines`.
pub(super) struct Secured {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// Its name in the table of routes.
    pub(super) column: &'static str,
}

/// An engine with the security plug-in behind the domain, filled with events of two accounts.
pub(super) struct Locks {
    pub(super) roles: Roles,
    _engine: Engine,
}

impl Locks {
    /// Starts the engine with `settings`, and the program with `more` entries.
    pub(super) async fn start(secured: &Secured, settings: &[&str], more: &str) -> Self {
        let engine = Engine::start_secured(secured.name, settings).await.unwrap();
        let domain = FakeDomain::start(Options { backend: engine.backend(), ..Options::default() }).await.unwrap();
        let full = |role: &str| format!("access = \"full\"\n{}", role_line(role));
        let list = [
            entry(MASTER.into(), "master", &full("Master")),
            entry(READER.into(), "reader", ""),
            entry(UNLOCKED.into(), "unlocked", &full("Auditor")),
            entry(THIRD_PARTY.into(), "third party", &role_line("ThirdParty")),
            entry(EDITOR.into(), "editor", &full("Editor")),
            entry(READING_EDITOR.into(), "reading editor", &role_line("Master")),
            entry(CONTRACTOR.into(), "contractor", &role_line("Contractor")),
        ];
        let roles = format!("read = \"{}\"", arn("Auditor"));
        let line = format!("engine = \"{}\"\n", secured.version);
        let roles = Roles::launch(domain, &roles, &(list.concat() + more), &line).await;
        let it = Self { roles, _engine: engine };
        it.map_roles().await;
        it.fill().await;
        it
    }

    /// Maps the roles as the stack's function does, signed with the master's role, which is all that the plug-in knows.
    pub(super) async fn map_roles(&self) {
        let settings = Settings::read(|variable| match variable {
            // From the address of the master's entry.
            "ENDPOINT" => Some(format!("http://{}", self.roles.program.address)),
            "REGION" => Some("eu-west-1".to_owned()),
            "SERVICE" => Some("es".to_owned()),
            "SECURITY_API" => Some("/_plugins/_security/api".to_owned()),
            "INGEST_ROLES" => Some(arn("Function")),
            "AUDITOR_ROLE" => Some(arn("Auditor")),
            "EDITOR_ROLE" => Some(arn("Editor")),
            "THIRD_PARTY_ROLE" => Some(arn("ThirdParty")),
            "THIRD_PARTY_ACCOUNT" => Some(OWN_ACCOUNT.to_owned()),
            _ => None,
        })
        .unwrap();
        let domain = Domain::connect(&settings, SharedCredentialsProvider::new(signing_key(None))).unwrap();
        let plan = settings.roles.unwrap();
        let mapped = map_roles(&domain, &plan, Instant::now() + Duration::from_mins(1)).await.unwrap();
        assert_eq!(mapped.mapped.len(), 4);
    }

    /// Writes ten events of one account and five of another.
    async fn fill(&self) {
        let keyword = json!({ "type": "keyword" });
        let account = json!({ "properties": { "accountId": keyword } });
        let properties = json!({ "eventName": keyword, "recipientAccountId": keyword, "sourceIPAddress": keyword, "userIdentity": account });
        let index = json!({ "settings": { "number_of_replicas": 0 }, "mappings": { "properties": properties } });
        let made = self.send(MASTER, "PUT", "/cwl-2026.11.22", &index.to_string()).await;
        assert_eq!(made.status(), StatusCode::OK, "{made:?}");
        let mut bulk = String::new();
        for number in 0..15 {
            let account = if number < 10 { "111111111111" } else { OWN_ACCOUNT };
            let event = json!({ "eventName": format!("Event{number}"), "recipientAccountId": account,
                "sourceIPAddress": "198.51.100.7", "userIdentity": { "accountId": account } });
            writeln!(bulk, "{{\"index\":{{\"_index\":\"cwl-2026.11.22\",\"_id\":\"{number}\"}}}}\n{event}").unwrap();
        }
        let written = self.send(MASTER, "POST", "/_bulk?refresh=true", &bulk).await;
        assert_eq!(body(&written)["errors"], false, "{written:?}");
    }

    pub(super) async fn send(&self, client: u8, method: &str, target: &str, body: &str) -> Response<Bytes> {
        send(&mut self.roles.connect(client).await, method, target, body).await
    }

    pub(super) async fn get(&self, client: u8, target: &str) -> Value {
        let response = self.send(client, "GET", target, "").await;
        assert_eq!(response.status(), StatusCode::OK, "{target}: {response:?}");
        body(&response)
    }

    /// Returns everything that a write could have changed, as the master sees it.
    pub(super) async fn state(&self) -> Vec<Value> {
        let mut state = Vec::new();
        for target in [
            "/_cat/indices/cwl-*?h=index,status,docs.count,docs.deleted&s=index&format=json",
            "/cwl-*/_search?size=100&sort=eventName",
            "/cwl-*?expand_wildcards=all",
            "/_cluster/settings",
            "/_index_template",
            "/_component_template",
            "/_template",
            "/_alias",
            "/_snapshot",
            "/_ingest/pipeline",
            "/_plugins/_security/api/roles",
            "/_plugins/_security/api/rolesmapping",
            "/_plugins/_security/api/internalusers",
        ] {
            // Without any, some of these answer 404.
            let mut part = body(&self.send(MASTER, "GET", target, "").await);
            part.as_object_mut().map(|part| part.shift_remove("took"));
            state.push(part);
        }
        state
    }
}

pub(super) async fn send(connection: &mut Connection, method: &str, target: &str, body: &str) -> Response<Bytes> {
    let headers = if body.is_empty() { vec![] } else { vec![("content-type", "application/json")] };
    connection.send(request(method, target, &headers, body.to_owned())).await
}

pub(super) const OWN_ACCOUNT: &str = "222222222222";
