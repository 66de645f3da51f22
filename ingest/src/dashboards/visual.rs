//! How a panel is drawn.

use serde_json::{Value, json};

use super::format::{Form, Kind};
use super::source::{COLUMNS, Panel, Shows, Split};

/// The `visState` of a panel, over events whose time is in the field `time`.
pub(super) fn state(panel: &Panel, time: &str, form: Form) -> Value {
    let (kind, params, aggregations) = match &panel.shows {
        Shows::Note(text) => ("markdown", note(text, form), Vec::new()),
        Shows::Count | Shows::Events => ("metric", number(form), vec![count("Events")]),
        Shows::Table { by, top } => {
            let mut aggregations = vec![count("Events")];
            aggregations.extend(by.iter().zip(2_usize..).map(|(field, nth)| terms(nth, "bucket", field, *top)));
            ("table", table(panel.height, form), aggregations)
        }
        Shows::OverTime(split) => {
            let mut aggregations = vec![count("Events")];
            // Before the time, so that the values are the most frequent of all, not of each bar.
            aggregations.extend(pieces(split, form));
            aggregations.push(over(time));
            ("histogram", bars(form), aggregations)
        }
    };
    let mut state = json!({ "title": panel.title, "type": kind, "params": params, "aggs": aggregations });
    if form == Form::Kibana5 {
        state["listeners"] = json!({});
    }
    state
}

/// Markdown, with links to where this form has its pages.
fn note(text: &str, form: Form) -> Value {
    let mut markdown = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("](") {
        let (target, behind) = link.split_once(')').unwrap_or((link, ""));
        let target = match target.split_once(':') {
            Some(("search", id)) => form.link(Kind::Search, id),
            Some(("dashboard", id)) => form.link(Kind::Dashboard, id),
            _ => target.to_owned(),
        };
        markdown.extend([before, "](", &target, ")"]);
        rest = behind;
    }
    markdown.push_str(rest);
    match form {
        Form::Kibana5 => json!({ "markdown": markdown }),
        Form::Kibana7 => json!({ "markdown": markdown, "fontSize": 12, "openLinksInNewTab": false }),
    }
}

fn number(form: Form) -> Value {
    match form {
        Form::Kibana5 => json!({ "handleNoResults": true, "fontSize": 36 }),
        Form::Kibana7 => json!({
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

fn table(height: u8, form: Form) -> Value {
    let mut params = json!({
        // As many as there is room for.
        "perPage": 3 * height - 2,
        "showPartialRows": false,
        "sort": { "columnIndex": null, "direction": null },
        "showTotal": false,
        "totalFunc": "sum",
    });
    // Kibana 5 spells it so.
    params[if form == Form::Kibana5 { "showMeticsAtAllLevels" } else { "showMetricsAtAllLevels" }] = json!(false);
    params
}

fn bars(form: Form) -> Value {
    match form {
        Form::Kibana5 => json!({
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
        Form::Kibana7 => json!({
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
                "title": { "text": "Events" },
            }],
            "seriesParams": [{
                "show": true,
                "type": "histogram",
                "mode": "stacked",
                "data": { "label": "Events", "id": "1" },
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

fn count(label: &str) -> Value {
    aggregation(1, "count", "metric", &json!({ "customLabel": label }))
}

fn over(time: &str) -> Value {
    let params = json!({
        "field": time, "interval": "auto", "customInterval": "2h", "min_doc_count": 1, "extended_bounds": {},
    });
    aggregation(3, "date_histogram", "segment", &params)
}

fn pieces(split: &Split, form: Form) -> Option<Value> {
    match split {
        Split::None => None,
        Split::By(field, top) => Some(terms(2, "group", field, *top)),
        Split::Into(queries) => {
            let filters = queries.iter().map(|(title, query)| {
                let input = match form {
                    Form::Kibana5 => json!({ "query": form.query(query) }),
                    Form::Kibana7 => form.query(query),
                };
                json!({ "input": input, "label": title })
            });
            let filters: Vec<_> = filters.collect();
            Some(aggregation(2, "filters", "group", &json!({ "filters": filters })))
        }
    }
}

fn terms(nth: usize, schema: &str, field: &str, top: u8) -> Value {
    // Under the name that it is searched by.
    let params = json!({ "field": field, "size": top, "order": "desc", "orderBy": "1", "customLabel": field });
    aggregation(nth, "terms", schema, &params)
}

fn aggregation(nth: usize, kind: &str, schema: &str, params: &Value) -> Value {
    json!({ "id": nth.to_string(), "enabled": true, "type": kind, "schema": schema, "params": params })
}

/// The widths of a table's columns as `OpenSearch` Dashboards keeps them, in pixels: its tables do not wrap, and would
/// give a number as much room as a name. None for what is no table.
pub(super) fn column_widths(panel: &Panel) -> Option<Vec<u32>> {
    let Shows::Table { by, .. } = &panel.shows else { return None };
    let wanted: Vec<u32> = by.iter().map(|field| column_width(field)).chain([COUNT_WIDTH]).collect();
    let (room, all) = (width(panel), wanted.iter().sum::<u32>());
    // What is left goes to all of them in proportion.
    Some(wanted.iter().map(|wanted| wanted * room / all).collect())
}

/// The pixels within a panel in a window of 1,280: the scroll bar, the margins of the page and the panel's own are off.
pub(super) fn width(panel: &Panel) -> u32 {
    (WINDOW - 32) * u32::from(panel.width) / u32::from(COLUMNS) - 24
}

const WINDOW: u32 = 1280;

/// The pixels that the longest usual value of a field takes.
pub(super) fn column_width(field: &str) -> u32 {
    let characters = match field {
        "ct.principal" => 36,
        "ct.role_arn" | "userIdentity.arn" => 52,
        "userIdentity.accountId" | "userIdentity.type" | "awsRegion" => 15,
        "sourceIPAddress" | "eventName" | "eventSource" | "errorCode" => 26,
        "tlsDetails.tlsVersion" => 14,
        _ => 40,
    };
    characters * CHARACTER + PADDING
}

/// An average character of the 14 pixels that tables are set in.
const CHARACTER: u32 = 7;
const PADDING: u32 = 16;
const COUNT_WIDTH: u32 = 8 * CHARACTER + PADDING;
