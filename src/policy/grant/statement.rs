//! Statements of the query plug-ins. With deletion enabled in the plug-in, SQL also deletes.

/// A language of the query plug-ins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    /// `SELECT …`
    Sql,
    /// `source=… | …`
    Ppl,
}

impl Language {
    /// Returns whether `statement` is a single statement that begins with a reading verb.
    pub(super) fn reads(self, statement: &str) -> bool {
        let statement = statement.trim();
        let statement = statement.strip_suffix(';').unwrap_or(statement);
        // A second statement could write. A `;` within a string literal is rare enough to reject.
        if statement.contains(';') {
            return false;
        }
        let start = statement.trim_start_matches(|c: char| c == '(' || c.is_ascii_whitespace());
        let end = start.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(start.len());
        let (word, rest) = start.split_at(end);
        let verbs = match self {
            Self::Sql => SQL,
            Self::Ppl => PPL,
        };
        let explains = word.eq_ignore_ascii_case("explain");
        if explains && self == Self::Sql {
            // `EXPLAIN` runs nothing, but not every version is known to guarantee that for a write.
            return !rest.trim_start().get(..7).is_some_and(|verb| verb.eq_ignore_ascii_case("explain"))
                && self.reads(rest);
        }
        verbs.iter().any(|verb| word.eq_ignore_ascii_case(verb)) && !rest.starts_with('_')
    }
}

const SQL: &[&str] = &["select", "show", "describe", "desc"];
const PPL: &[&str] = &["search", "source", "index", "describe", "show", "explain"];

#[cfg(test)]
mod tests {
    use super::Language::{self, Ppl, Sql};

    #[track_caller]
    fn reads(language: Language, statement: &str, expected: bool) {
        assert_eq!(language.reads(statement), expected, "{statement}");
    }

    #[test]
    fn sql_with_a_reading_first_verb_is_a_read() {
        reads(Sql, "SELECT * FROM `cwl-*` WHERE eventName = 'DeleteTrail'", true);
        reads(Sql, " \n(select 1);", true);
        reads(Sql, "SHOW TABLES LIKE %", true);
        reads(Sql, "describe tables like cwl-%", true);
        reads(Sql, "EXPLAIN SELECT 1", true);
        reads(Sql, "DELETE FROM cwl", false);
        reads(Sql, "explain delete from cwl", false);
        reads(Sql, "explain explain select 1", false);
        reads(Sql, "/* SELECT */ DELETE FROM cwl", false);
        reads(Sql, "-- \nDELETE FROM cwl", false);
        reads(Sql, "SELECT 1; DELETE FROM cwl", false);
        reads(Sql, "SELECTED", false);
        reads(Sql, "INSERT INTO cwl VALUES (1)", false);
        reads(Sql, "UPDATE cwl SET a = 1", false);
        reads(Sql, "", false);
    }

    #[test]
    fn ppl_with_a_source_first_is_a_read() {
        reads(Ppl, "source=cwl-* | stats count() by eventName", true);
        reads(Ppl, "search source = cwl-*", true);
        reads(Ppl, "describe cwl-2023.07.10", true);
        reads(Ppl, "delete from cwl", false);
        reads(Ppl, "| source=cwl", false);
    }
}
