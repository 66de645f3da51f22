//! The plan for setting up a domain.

use std::num::NonZeroU32;

use crate::document::access_line;
use crate::engine::Engine;
use crate::setup::template::TemplateKind;

/// The index template and the retention policy that a domain should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupPlan {
    prefix: String,
    /// The documents that the indices hold.
    pub(crate) kind: TemplateKind,
    /// The age in days at which an index is deleted; never if `None`.
    pub(crate) retention: Option<NonZeroU32>,
    /// The domain's engine, unless it has to be detected.
    pub(crate) engine: Option<Engine>,
}

impl SetupPlan {
    /// Plans a template for the indices whose names begin with `prefix`, deleted after `retention` days if that is
    /// given.
    ///
    /// Returns none if `prefix` cannot begin the name of an index, or is so empty that it would match the indices of
    /// others.
    #[must_use]
    pub fn new(prefix: &str, retention: Option<NonZeroU32>) -> Option<Self> {
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        let begins = prefix.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        (begins && prefix.bytes().all(is_name)).then(|| Self {
            prefix: prefix.to_owned(),
            retention,
            engine: None,
            kind: TemplateKind::Trail,
        })
    }

    /// Plans the same for the indices of trailgate's access lines.
    #[must_use]
    pub fn for_access_log(&self) -> Self {
        Self { prefix: access_line::PREFIX.to_owned(), kind: TemplateKind::AccessLog, ..self.clone() }
    }

    /// Sets the engine, so that it is not detected.
    #[must_use]
    pub fn with_engine(self, engine: Engine) -> Self {
        Self { engine: Some(engine), ..self }
    }

    pub(crate) fn pattern(&self) -> String {
        format!("{}*", self.prefix)
    }

    /// Returns the name of both the template and the policy.
    pub(crate) fn name(&self) -> String {
        format!("trailgate-{}", self.prefix.trim_end_matches(['-', '_', '.']))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_requires_a_prefix_of_its_own() {
        let plan = SetupPlan::new("cwl-", None).unwrap();
        assert_eq!((plan.name().as_str(), plan.pattern().as_str()), ("trailgate-cwl", "cwl-*"));
        for prefix in ["", "-", ".", "*", "_all", "CWL-", "cwl-*", "cwl,", "a/b"] {
            assert_eq!(SetupPlan::new(prefix, None), None, "{prefix}");
        }
    }
}
