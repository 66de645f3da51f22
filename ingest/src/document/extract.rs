//! What auditors search for in CloudTrail's free-form parts, as fields that are always there.
//!
//! `requestParameters` and its like differ from call to call, so they are stored but not indexed. What is worth a
//! search in them is copied to an object of keywords, `ct`: `ct.bucket`, `ct.role_arn` and so on. A field holds all
//! that its paths lead to: one string, or an array of them. Arrays on the way are walked through, and policy documents
//! are read for whom they let in.

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

/// Longer values are cut: they are to be searched for, and the whole is in the document anyway.
pub(crate) const MAX_VALUE: usize = 1024;

/// A field has no more values than this; the longest list that an event has room for is some tens of thousands of ids.
const MAX_VALUES: usize = 1000;

/// The names of the fields that have more than [`MAX_VALUES`] values, of which the rest is missing.
const TRUNCATED: &str = "truncated";

/// The caller in a few words.
const PRINCIPAL: &str = "principal";

/// Whom the policy in an event lets in, and from which addresses.
const POLICY_PRINCIPAL: &str = "policy_principal";
const POLICY_CIDR: &str = "policy_cidr";

/// Whether the caller is of another account than the one that was called.
const CROSS_ACCOUNT: &str = "cross_account";

/// The names of all fields within [`OBJECT`], each to be mapped as a keyword.
#[cfg(test)]
pub(crate) fn fields() -> impl Iterator<Item = &'static str> {
    [PRINCIPAL].into_iter().chain(FIELDS.iter().map(|field| field.name)).chain([CROSS_ACCOUNT, TRUNCATED])
}

/// Writes the object of `event`'s fields, unless it has none; says whether it did.
pub(crate) fn write_object(event: &Tape<'_>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.push(b'{');
    if let Some(principal) = principal::principal(event) {
        write_key(out, start, PRINCIPAL);
        write_string(out, &cut(principal.into()));
    }
    let mut hits = hits(event);
    // Stable, so that a field's values stay in the order of the event.
    hits.sort_by_key(|(field, _)| *field);
    let mut truncated = Vec::new();
    for values in hits.chunk_by(|one, other| one.0 == other.0) {
        let name = FIELDS[values[0].0].name;
        write_key(out, start, name);
        let (values, is_complete) = distinct(values);
        write_values(out, &values);
        if !is_complete {
            truncated.push(Cow::Borrowed(name));
        }
    }
    if let Some(is_foreign) = cross_account(event) {
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

/// The fields that are to be filled and what their values say, in the order of the event.
fn hits<'a>(event: &Tape<'a>) -> Vec<(usize, Cow<'a, str>)> {
    let source = event.members().find(|(_, node)| node.key == "eventSource").and_then(|(_, node)| node.as_string());
    let service = source.as_deref().and_then(|source| source.split('.').next()).unwrap_or_default();
    let mut walk = Walk { event, service, hits: Vec::with_capacity(16) };
    walk.visit(0, event.root(), &PATHS);
    walk.hits
}

struct Walk<'e, 'a> {
    event: &'e Tape<'a>,
    service: &'e str,
    hits: Vec<(usize, Cow<'a, str>)>,
}

impl<'a> Walk<'_, 'a> {
    fn visit(&mut self, index: usize, node: &Node<'a>, branch: &Branch) {
        if branch.policy.has(self.service) {
            let admitted = policy::admitted(node);
            let [principal, cidr] = *POLICY_FIELDS;
            self.hits.extend(admitted.principals.into_iter().map(|value| (principal, cut(value.into()))));
            self.hits.extend(admitted.cidrs.into_iter().map(|value| (cidr, cut(value.into()))));
        }
        if node.is_object() {
            for (index, node) in self.event.children(index) {
                if let Some(branch) = branch.child(node.key) {
                    self.visit(index, node, branch);
                }
            }
        } else if node.is_array() {
            for (index, node) in self.event.children(index) {
                self.visit(index, node, branch);
            }
        } else if node.value != "null" && node.value != "\"\"" {
            for (field, service) in &branch.fields {
                if service.is_none_or(|service| service == self.service) {
                    self.hits.push((*field, said(node.value)));
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

/// Each value once and no more than [`MAX_VALUES`], and whether these are all.
fn distinct<'v>(hits: &'v [(usize, Cow<'_, str>)]) -> (Vec<Cow<'v, str>>, bool) {
    if let [(_, value)] = hits {
        return (vec![Cow::Borrowed(value)], true);
    }
    let mut seen = HashSet::new();
    let mut values =
        hits.iter().map(|(_, value)| value.as_ref()).filter(|value| seen.insert(*value)).map(Cow::Borrowed);
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

/// What a scalar says, numbers and booleans as they are written, no longer than [`MAX_VALUE`].
fn said(written: &str) -> Cow<'_, str> {
    match string_content(written) {
        Some(inside) => cut(unescape(inside)),
        None => cut(Cow::Borrowed(written)),
    }
}

/// At most the first [`MAX_VALUE`] bytes of `text`, and whole characters.
pub(crate) fn cut(text: Cow<'_, str>) -> Cow<'_, str> {
    let end = text.floor_char_boundary(MAX_VALUE);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    }
}

/// None when one of the two accounts is not said, as for calls by a service.
fn cross_account(event: &Tape<'_>) -> Option<bool> {
    let member = |key: &str| event.members().find(|(_, node)| node.key == key);
    let (identity, _) = member("userIdentity")?;
    let (_, caller) = event.children(identity).find(|(_, node)| node.key == "accountId")?;
    let (_, recipient) = member("recipientAccountId")?;
    Some(caller.as_string()? != recipient.as_string()?)
}

/// The table's paths as one tree, made once: an event is walked through it, not the table through the event.
static PATHS: LazyLock<Branch> = LazyLock::new(|| {
    let mut root = Branch::default();
    for (field, Field { paths, .. }) in FIELDS.iter().enumerate() {
        for Path { service, keys } in *paths {
            let end = keys.split('.').fold(&mut root, Branch::grow);
            end.fields.push((field, *service));
        }
    }
    for Path { service, keys } in POLICIES {
        keys.split('.').fold(&mut root, Branch::grow).policy = service.map_or(Services::All, Services::One);
    }
    root
});

/// The numbers of the fields that a policy fills.
static POLICY_FIELDS: LazyLock<[usize; 2]> = LazyLock::new(|| {
    [POLICY_PRINCIPAL, POLICY_CIDR]
        .map(|name| FIELDS.iter().position(|field| field.name == name).expect("the table has both"))
});

#[derive(Default)]
struct Branch {
    key: &'static str,
    /// In the order of [`rank`].
    children: Vec<Branch>,
    /// What ends here: the number of the field, and the one service it is meant for, if not for all.
    fields: Vec<(usize, Option<&'static str>)>,
    /// The services whose events have a policy document here.
    policy: Services,
}

/// Some of the services, as `eventSource` begins.
#[derive(Clone, Copy, Default)]
enum Services {
    #[default]
    None,
    One(&'static str),
    All,
}

impl Services {
    fn has(self, service: &str) -> bool {
        match self {
            Self::None => false,
            Self::One(one) => one == service,
            Self::All => true,
        }
    }
}

impl Branch {
    fn child(&self, key: &str) -> Option<&Branch> {
        let place = self.children.binary_search_by(|child| rank(child.key).cmp(&rank(key)));
        place.ok().map(|place| &self.children[place])
    }

    fn grow(&mut self, key: &'static str) -> &mut Branch {
        let place = self.children.binary_search_by(|child| rank(child.key).cmp(&rank(key))).unwrap_or_else(|place| {
            self.children.insert(place, Branch { key, ..Branch::default() });
            place
        });
        &mut self.children[place]
    }
}

/// By length first: most comparisons end there.
fn rank(key: &str) -> (usize, &str) {
    (key.len(), key)
}
