//! Extracts the promoted fields: what auditors search for in CloudTrail's free-form parts.
//!
//! `requestParameters` and its like differ from call to call, so they are stored but not indexed. Values worth a search
//! are copied to an object of keywords, `ct`: `ct.bucket`, `ct.role_arn` and so on. A field has all values at its
//! paths: one string, or an array of them. Arrays on a path are traversed, and policy documents are read for the
//! principals that they allow. The fields that a subscription filter extracts are something else: [`super::members`]
//! writes those.

mod policy;
mod principal;
mod table;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use table::{FIELDS, Field, POLICIES, Path};

use crate::json::text::{string_content, unescape, write_string};
use crate::json::{Node, Tape};

/// The object that holds the fields.
pub(crate) const OBJECT: &str = "ct";

/// Longer values are cut: they are for searches, and the document has the whole value anyway.
pub(crate) const MAX_VALUE: usize = 1024;

/// The most values of a field; an event has room for some tens of thousands of ids.
const MAX_VALUES: usize = 1000;

/// The field of the names of fields with more than [`MAX_VALUES`] values, which lack the rest.
const TRUNCATED: &str = "truncated";

/// The field of the caller in short.
const PRINCIPAL: &str = "principal";

/// The fields of the principals and addresses that a policy in an event allows.
const POLICY_PRINCIPAL: &str = "policy_principal";
const POLICY_CIDR: &str = "policy_cidr";

/// The field that says whether the caller is of another account than the resource.
const CROSS_ACCOUNT: &str = "cross_account";

/// Returns the names of all fields within [`OBJECT`], each mapped as a keyword.
#[cfg(test)]
pub(crate) fn fields() -> impl Iterator<Item = &'static str> {
    [PRINCIPAL].into_iter().chain(FIELDS.iter().map(|field| field.name)).chain([CROSS_ACCOUNT, TRUNCATED])
}

/// Writes the object of `event`'s fields unless it has none; returns whether it did.
pub(crate) fn write_promoted_fields(event: &Tape<'_>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.push(b'{');
    if let Some(principal) = principal::describe_principal(event) {
        write_key(out, start, PRINCIPAL);
        write_string(out, &truncate(principal.into()));
    }
    let mut values = collect_values(event);
    // Stable, so that a field's values stay in the order of the event.
    values.sort_by_key(|(field, _)| *field);
    let mut truncated = Vec::new();
    for values in values.chunk_by(|one, other| one.0 == other.0) {
        let name = FIELDS[values[0].0].name;
        write_key(out, start, name);
        let (values, is_complete) = deduplicate(values);
        write_values(out, &values);
        if !is_complete {
            truncated.push(Cow::Borrowed(name));
        }
    }
    if let Some(is_foreign) = is_cross_account(event) {
        write_key(out, start, CROSS_ACCOUNT);
        out.extend_from_slice(if is_foreign { b"\"true\"" } else { b"\"false\"" });
    }
    if !truncated.is_empty() {
        write_key(out, start, TRUNCATED);
        write_values(out, &truncated);
    }
    if out.len() == start + 1 {
        out.truncate(start);
        return false;
    }
    out.push(b'}');
    true
}

/// Returns the numbers of fields and their values, in the order of the event.
fn collect_values<'a>(event: &Tape<'a>) -> Vec<(usize, Cow<'a, str>)> {
    let source = event.members().find(|(_, node)| node.key == "eventSource").and_then(|(_, node)| node.as_string());
    let service = source.as_deref().and_then(|source| source.split('.').next()).unwrap_or_default();
    let mut walker = Walker { event, service, values: Vec::with_capacity(16) };
    walker.visit(0, event.root(), &PATHS);
    walker.values
}

struct Walker<'e, 'a> {
    event: &'e Tape<'a>,
    service: &'e str,
    values: Vec<(usize, Cow<'a, str>)>,
}

impl<'a> Walker<'_, 'a> {
    fn visit(&mut self, index: usize, node: &Node<'a>, path: &PathNode) {
        if path.policy.has(self.service) {
            let admitted = policy::read_policy(node);
            let [principal, cidr] = *POLICY_FIELDS;
            self.values.extend(admitted.principals.into_iter().map(|value| (principal, truncate(value.into()))));
            self.values.extend(admitted.cidrs.into_iter().map(|value| (cidr, truncate(value.into()))));
        }
        if node.is_object() {
            for (index, node) in self.event.children(index) {
                if let Some(path) = path.child(node.key) {
                    self.visit(index, node, path);
                }
            }
        } else if node.is_array() {
            for (index, node) in self.event.children(index) {
                self.visit(index, node, path);
            }
        } else if node.value != "null" && node.value != "\"\"" {
            for (field, service) in &path.fields {
                if service.is_none_or(|service| service == self.service) {
                    self.values.push((*field, scalar_text(node.value)));
                }
            }
        }
    }
}

fn write_key(out: &mut Vec<u8>, start: usize, name: &str) {
    if out.len() > start + 1 {
        out.push(b',');
    }
    write_string(out, name);
    out.push(b':');
}

/// Returns each value once and no more than [`MAX_VALUES`], and whether these are all.
fn deduplicate<'v>(values: &'v [(usize, Cow<'_, str>)]) -> (Vec<Cow<'v, str>>, bool) {
    if let [(_, value)] = values {
        return (vec![Cow::Borrowed(value)], true);
    }
    let mut seen = HashSet::new();
    let mut values =
        values.iter().map(|(_, value)| value.as_ref()).filter(|value| seen.insert(*value)).map(Cow::Borrowed);
    let first = values.by_ref().take(MAX_VALUES).collect();
    (first, values.next().is_none())
}

fn write_values(out: &mut Vec<u8>, values: &[Cow<'_, str>]) {
    if let [value] = values {
        return write_string(out, value);
    }
    for (nth, value) in values.iter().enumerate() {
        out.push(if nth == 0 { b'[' } else { b',' });
        write_string(out, value);
    }
    out.push(b']');
}

/// Returns the text of a scalar, numbers and booleans as they are written, no longer than [`MAX_VALUE`].
fn scalar_text(written: &str) -> Cow<'_, str> {
    match string_content(written) {
        Some(inside) => truncate(unescape(inside)),
        None => truncate(Cow::Borrowed(written)),
    }
}

/// Returns at most the first [`MAX_VALUE`] bytes of `text`, and whole characters.
pub(crate) fn truncate(text: Cow<'_, str>) -> Cow<'_, str> {
    let end = text.floor_char_boundary(MAX_VALUE);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    }
}

/// Compares the accounts of caller and recipient; none without one of them, as for calls by a service.
fn is_cross_account(event: &Tape<'_>) -> Option<bool> {
    let member = |key: &str| event.members().find(|(_, node)| node.key == key);
    let (identity, _) = member("userIdentity")?;
    let (_, caller) = event.children(identity).find(|(_, node)| node.key == "accountId")?;
    let (_, recipient) = member("recipientAccountId")?;
    Some(caller.as_string()? != recipient.as_string()?)
}

/// The table's paths as one tree, built once: one pass over an event finds all fields.
static PATHS: LazyLock<PathNode> = LazyLock::new(|| {
    let mut root = PathNode::default();
    for (field, Field { paths, .. }) in FIELDS.iter().enumerate() {
        for Path { service, keys } in *paths {
            let end = keys.split('.').fold(&mut root, PathNode::child_mut);
            end.fields.push((field, *service));
        }
    }
    for Path { service, keys } in POLICIES {
        keys.split('.').fold(&mut root, PathNode::child_mut).policy =
            service.map_or(ServiceFilter::All, ServiceFilter::One);
    }
    root
});

/// The numbers of the fields that a policy fills.
static POLICY_FIELDS: LazyLock<[usize; 2]> = LazyLock::new(|| {
    [POLICY_PRINCIPAL, POLICY_CIDR]
        .map(|name| FIELDS.iter().position(|field| field.name == name).expect("the table has both"))
});

#[derive(Default)]
struct PathNode {
    key: &'static str,
    /// The children, in the order of [`key_order`].
    children: Vec<PathNode>,
    /// The fields whose path ends here: the number, and the service if it is for one only.
    fields: Vec<(usize, Option<&'static str>)>,
    /// The services whose events have a policy document here.
    policy: ServiceFilter,
}

/// Some of the services, as `eventSource` begins.
#[derive(Clone, Copy, Default)]
enum ServiceFilter {
    #[default]
    None,
    One(&'static str),
    All,
}

impl ServiceFilter {
    fn has(self, service: &str) -> bool {
        match self {
            Self::None => false,
            Self::One(one) => one == service,
            Self::All => true,
        }
    }
}

impl PathNode {
    fn child(&self, key: &str) -> Option<&PathNode> {
        let place = self.children.binary_search_by(|child| key_order(child.key).cmp(&key_order(key)));
        place.ok().map(|place| &self.children[place])
    }

    fn child_mut(&mut self, key: &'static str) -> &mut PathNode {
        let place =
            self.children.binary_search_by(|child| key_order(child.key).cmp(&key_order(key))).unwrap_or_else(|place| {
                self.children.insert(place, PathNode { key, ..PathNode::default() });
                place
            });
        &mut self.children[place]
    }
}

/// Returns the sort key of a name: the length first, because most comparisons end there.
fn key_order(key: &str) -> (usize, &str) {
    (key.len(), key)
}
