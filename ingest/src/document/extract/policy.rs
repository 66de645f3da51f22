//! The principals and addresses that a policy document allows.
//!
//! Most services log a policy as JSON within a string, S3 as an object, and Lambda the one statement that it added.

use std::borrow::Cow;

use crate::json::text::{string_content, unescape};
use crate::json::{Node, Tape};

/// The parts of a policy that are worth a search.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Admitted {
    /// The principals that an `Allow` statement names: ARNs, accounts, services, `*`.
    pub(super) principals: Vec<String>,
    /// The CIDR blocks that an `Allow` statement narrows it to.
    pub(super) cidrs: Vec<String>,
}

/// Reads the policy in a value of an event; the result is empty if it is none.
pub(super) fn read_policy(value: &Node<'_>) -> Admitted {
    let text = match string_content(value.value) {
        Some(inside) => unescape(inside),
        None => Cow::Borrowed(value.value),
    };
    let mut admitted = Admitted::default();
    if let Ok(policy) = Tape::parse(&text) {
        let statements = policy.members().find(|(_, node)| node.key == "Statement");
        read_statement(&policy, statements.map_or(0, |(index, _)| index), &mut admitted);
    }
    admitted
}

/// Reads the statement at `index`, or those of a list.
fn read_statement(policy: &Tape<'_>, index: usize, admitted: &mut Admitted) {
    if policy.node(index).is_array() {
        return policy.children(index).for_each(|(index, _)| read_statement(policy, index, admitted));
    }
    let member = |key: &str| policy.children(index).find(|(_, node)| node.key == key);
    if member("Effect").is_some_and(|(_, effect)| effect.value != "\"Allow\"") {
        return;
    }
    if let Some((principal, _)) = member("Principal") {
        collect_strings(policy, principal, &mut admitted.principals);
    }
    // All but those named.
    if member("NotPrincipal").is_some() {
        admitted.principals.push("*".to_owned());
    }
    let Some((conditions, _)) = member("Condition") else { return };
    for (operator, _) in policy.children(conditions).filter(|(_, node)| !node.key.contains("Not")) {
        let blocks = policy.children(operator).filter(|(_, node)| node.key.eq_ignore_ascii_case("aws:SourceIp"));
        blocks.for_each(|(block, _)| collect_strings(policy, block, &mut admitted.cidrs));
    }
}

/// Collects the string at `index`, or all those in it.
fn collect_strings(policy: &Tape<'_>, index: usize, found: &mut Vec<String>) {
    let within = policy.descendants(index).iter().chain([policy.node(index)]);
    found.extend(within.filter_map(Node::as_string).map(Cow::into_owned));
}
