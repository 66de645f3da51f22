//! The visualization of a panel.

use serde_json::{Value, json};

use super::definitions::{BarSplit, COLUMNS, Measure, Panel, PanelContent};
use super::format::{ExportFormat, ObjectKind};

/// Builds the `visState` of a panel, over events whose time is in the field `time`.
pub(super) fn build_vis_state(panel: &Panel, time: &str, format: ExportFormat) -> Value {
    let (kind, params, aggregations) = match &panel.content {
        PanelContent::Note(text) => ("markdown", markdown_params(text, format), Vec::new()),
        PanelContent::Count | PanelContent::Events => {
            ("metric", metric_params(format), vec![measure_aggregation(&panel.measure)])
        }
        PanelContent::Table { by, top } => {
            let mut aggregations = vec![measure_aggregation(&panel.measure)];
            aggregations
                .extend(by.iter().zip(2_usize..).map(|(field, nth)| terms_aggregation(nth, "bucket", field, *top)));
            ("table", table_params(panel.height, format), aggregations)
        }
        PanelContent::Pie { by, top } => {
            let slices = terms_aggregation(2, "segment", by, *top);
            ("pie", pie_params(format), vec![measure_aggregation(&panel.measure), slices])
        }
        PanelContent::OverTime(split) => {
            let mut aggregations = vec![measure_aggregation(&panel.measure)];
            // Before the time, so that the values are the most frequent of all events, not of each bar.
            aggregations.extend(split_aggregation(split, format));
            aggregations.push(time_aggregation(time));
            ("histogram", histogram_params(panel.measure.label(), format), aggregations)
        }
    };
    let mut state = json!({ "title": panel.title, "type": kind, "params": params, "aggs": aggregations });
    if format == ExportFormat::Kibana5 {
        state["listeners"] = json!({});
    }
    state
}

/// Returns Markdown, with links to the pages of this format.
fn markdown_params(text: &str, format: ExportFormat) -> Value {
    let mut markdown = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("](") {
        let (target, behind) = link.split_once(')').unwrap_or((link, ""));
        let target = match target.split_once(':') {
            Some(("search", id)) => format.page_link(ObjectKind::Search, id),
            Some(("dashboard", id)) => format.page_link(ObjectKind::Dashboard, id),
            _ => target.to_owned(),
        };
        markdown.extend([before, "](", &target, ")"]);
        rest = behind;
    }
    markdown.push_str(rest);
    match format {
        ExportFormat::Kibana5 => json!({ "markdown": markdown }),
        ExportFormat::Kibana7 => json!({ "markdown": markdown, "fontSize": 12, "openLinksInNewTab": false }),
    }
}

fn metric_params(format: ExportFormat) -> Value {
    match format {
        ExportFormat::Kibana5 => json!({ "handleNoResults": true, "fontSize": 36 }),
        ExportFormat::Kibana7 => json!({
            "addTooltip": true,
            "addLegend": false,
            "type": "metric",
            "metric": {
                "percentageMode": false,
                "useRanges": false,
                "colorSchema": "Green to Red",
                "metricColorMode": "None",
                "colorsRange": [{ "from": 0, "to": 10000 }],
                "labels": { "show": true },
                "invertColors": false,
                "style": { "bgFill": "#000", "bgColor": false, "labelColor": false, "subText": "", "fontSize": 36 },
            },
        }),
    }
}

fn table_params(height: u8, format: ExportFormat) -> Value {
    let mut params = json!({
        // As many rows as fit.
        "perPage": 3 * height - 2,
        "showPartialRows": false,
        "sort": { "columnIndex": null, "direction": null },
        "showTotal": false,
        "totalFunc": "sum",
    });
    // Kibana 5 spells it so.
    params[if format == ExportFormat::Kibana5 { "showMeticsAtAllLevels" } else { "showMetricsAtAllLevels" }] =
        json!(false);
    params
}

fn histogram_params(label: &str, format: ExportFormat) -> Value {
    match format {
        ExportFormat::Kibana5 => json!({
            "shareYAxis": true,
            "addTooltip": true,
            "addLegend": true,
            "legendPosition": "right",
            "scale": "linear",
            "mode": "stacked",
            "times": [],
            "addTimeMarker": false,
            "defaultYExtents": false,
            "setYExtents": false,
            "yAxis": {},
        }),
        ExportFormat::Kibana7 => json!({
            "type": "histogram",
            "grid": { "categoryLines": false },
            "categoryAxes": [{
                "id": "CategoryAxis-1",
                "type": "category",
                "position": "bottom",
                "show": true,
                "style": {},
                "scale": { "type": "linear" },
                "labels": { "show": true, "filter": true, "truncate": 100 },
                "title": {},
            }],
            "valueAxes": [{
                "id": "ValueAxis-1",
                "name": "LeftAxis-1",
                "type": "value",
                "position": "left",
                "show": true,
                "style": {},
                "scale": { "type": "linear", "mode": "normal" },
                "labels": { "show": true, "rotate": 0, "filter": false, "truncate": 100 },
                "title": { "text": label },
            }],
            "seriesParams": [{
                "show": true,
                "type": "histogram",
                "mode": "stacked",
                "data": { "label": label, "id": "1" },
                "valueAxis": "ValueAxis-1",
                "drawLinesBetweenPoints": true,
                "lineWidth": 2,
                "showCircles": true,
            }],
            "addTooltip": true,
            "addLegend": true,
            "legendPosition": "right",
            "times": [],
            "addTimeMarker": false,
            "labels": { "show": false },
            "thresholdLine": { "show": false, "value": 10, "width": 1, "style": "full", "color": "#E7664C" },
        }),
    }
}

fn pie_params(format: ExportFormat) -> Value {
    let mut params = json!({
        "addTooltip": true, "addLegend": true, "legendPosition": "right", "isDonut": false,
    });
    match format {
        ExportFormat::Kibana5 => params["shareYAxis"] = json!(true),
        ExportFormat::Kibana7 => {
            params["type"] = json!("pie");
            params["labels"] = json!({ "show": false, "values": true, "last_level": true, "truncate": 100 });
        }
    }
    params
}

fn measure_aggregation(measure: &Measure) -> Value {
    let label = measure.label();
    match measure {
        Measure::Count(_) => aggregation(1, "count", "metric", &json!({ "customLabel": label })),
        Measure::Sum(field) => aggregation(1, "sum", "metric", &json!({ "field": field, "customLabel": label })),
    }
}

impl Measure {
    /// Returns the label of the number: the field's name, which users enter in searches.
    fn label(&self) -> &str {
        let (Self::Count(label) | Self::Sum(label)) = self;
        label
    }
}

fn time_aggregation(time: &str) -> Value {
    let params = json!({
        "field": time, "interval": "auto", "customInterval": "2h", "min_doc_count": 1, "extended_bounds": {},
    });
    aggregation(3, "date_histogram", "segment", &params)
}

fn split_aggregation(split: &BarSplit, format: ExportFormat) -> Option<Value> {
    match split {
        BarSplit::None => None,
        BarSplit::By(field, top) => Some(terms_aggregation(2, "group", field, *top)),
        BarSplit::Into(queries) => {
            let filters = queries.iter().map(|(title, query)| {
                let input = match format {
                    ExportFormat::Kibana5 => json!({ "query": format.query(query) }),
                    ExportFormat::Kibana7 => format.query(query),
                };
                json!({ "input": input, "label": title })
            });
            let filters: Vec<_> = filters.collect();
            Some(aggregation(2, "filters", "group", &json!({ "filters": filters })))
        }
    }
}

fn terms_aggregation(nth: usize, schema: &str, field: &str, top: u8) -> Value {
    // The label is the name that users enter in searches.
    let params = json!({ "field": field, "size": top, "order": "desc", "orderBy": "1", "customLabel": field });
    aggregation(nth, "terms", schema, &params)
}

fn aggregation(nth: usize, kind: &str, schema: &str, params: &Value) -> Value {
    json!({ "id": nth.to_string(), "enabled": true, "type": kind, "schema": schema, "params": params })
}

/// Returns the widths of a table's columns as `OpenSearch` Dashboards stores them, in pixels: its tables do not wrap,
/// and by default a number is as wide as a name. None for other panels.
pub(super) fn column_widths(panel: &Panel) -> Option<Vec<u32>> {
    let PanelContent::Table { by, .. } = &panel.content else { return None };
    let wanted: Vec<u32> = by.iter().map(|field| column_width(field)).chain([measure_width(&panel.measure)]).collect();
    let (room, all) = (width(panel), wanted.iter().sum::<u32>());
    // The remaining room is divided in proportion.
    Some(wanted.iter().map(|wanted| wanted * room / all).collect())
}

/// Returns the pixels within a panel in a window of 1,280, without the scroll bar and the margins of page and panel.
pub(super) fn width(panel: &Panel) -> u32 {
    (WINDOW - 32) * u32::from(panel.width) / u32::from(COLUMNS) - 24
}

const WINDOW: u32 = 1280;

/// Returns the pixels that the longest usual value of a number needs.
pub(super) fn measure_width(measure: &Measure) -> u32 {
    let characters = match measure {
        Measure::Count(_) => 8,
        Measure::Sum(_) => 10,
    };
    characters * CHARACTER + PADDING
}

/// Returns the pixels that the longest usual value of a field needs.
pub(super) fn column_width(field: &str) -> u32 {
    let characters = match field {
        "ct.principal" => 36,
        "ct.role_arn" | "userIdentity.arn" => 52,
        "userIdentity.accountId" | "userIdentity.type" | "awsRegion" => 15,
        "sourceIPAddress" | "eventName" | "eventSource" | "errorCode" => 26,
        "tlsDetails.tlsVersion" | "route" => 14,
        "entry" | "client" | "outcome" => 18,
        "indices" => 20,
        "method" => 7,
        _ => 40,
    };
    characters * CHARACTER + PADDING
}

/// The width of an average character at the 14 pixels of tables.
const CHARACTER: u32 = 7;
const PADDING: u32 = 16;
