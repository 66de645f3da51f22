//! `trailgate-ingest dashboards` and `write-dashboards`.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use trailgate_ingest::dashboards::definitions::Definitions;
use trailgate_ingest::dashboards::format::ExportFormat;
use trailgate_ingest::dashboards::install::{DashboardSet, InstallPlan, install_dashboards};
use trailgate_ingest::dashboards::{self, file, saved};
use trailgate_ingest::document::DocumentOptions;
use trailgate_ingest::setup;

use crate::args::DashboardsArgs;
use crate::connection::settings;
use crate::output::print_text;

pub(super) fn write_dashboards(folder: &Path) -> anyhow::Result<()> {
    let (events, access_log) = (event_dashboards(&DocumentOptions::default().prefix)?, access_log_dashboards()?);
    for form in [ExportFormat::Kibana5, ExportFormat::Kibana7] {
        for (set, name) in [(&events, file::file_name(form)), (&access_log, file::access_log_file_name(form))] {
            let path = folder.join(name);
            let objects = saved::build_objects(&set.definitions, &set.pattern, &set.mapping, form);
            std::fs::write(&path, file::file_text(&objects, form)).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// Installs the dashboards; returns whether one of them stays because a user changed it.
pub(super) async fn install(args: &DashboardsArgs) -> anyhow::Result<bool> {
    let settings = settings(&args.connection)?;
    let domain = args.connection.domain(&settings)?;
    let mut sets = vec![event_dashboards(&settings.document_options.prefix)?];
    if settings.document_options.access_log {
        sets.push(access_log_dashboards()?);
    }
    let plan = InstallPlan { sets, is_forced: args.force };
    let installed = install_dashboards(&domain, &plan, TIMEOUT).await;
    let installed = installed.map_err(|error| args.connection.with_hint(error.into()))?;
    print_text(&installed.to_string())?;
    Ok(installed.has_changed())
}

fn event_dashboards(prefix: &str) -> anyhow::Result<DashboardSet> {
    let definitions = Definitions::parse(dashboards::SOURCE).context("cannot parse the built-in dashboards")?;
    let mapping = setup::index_mapping().context("cannot parse the built-in index template")?;
    Ok(DashboardSet { definitions, pattern: format!("{prefix}*"), mapping })
}

fn access_log_dashboards() -> anyhow::Result<DashboardSet> {
    let definitions =
        Definitions::parse(dashboards::ACCESS_LOG_SOURCE).context("cannot parse the built-in dashboards")?;
    let mapping = setup::access_log_mapping().context("cannot parse the built-in index template")?;
    Ok(DashboardSet { definitions, pattern: dashboards::ACCESS_LOG_PATTERN.to_owned(), mapping })
}

/// The longest time for one request: Kibana needs a second or two for an import.
const TIMEOUT: Duration = Duration::from_mins(1);
