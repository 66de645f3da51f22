//! Charts of the status page, as inline SVG.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::history::Point;

/// Renders requests as stacked bars, the latest of `slots` at the right.
pub(super) fn request_chart(points: &[Point], slots: usize, from: &str) -> Markup {
    let highest = nice_ceiling(points.iter().map(|point| count(point.requests)).fold(0.0, f64::max));
    let sum = |part: fn(&Point) -> u64| points.iter().map(part).sum::<u64>();
    let (requests, rejected, failed) =
        (sum(|point| point.requests), sum(|point| point.rejected), sum(|point| point.failed));
    let width = WIDTH / count(slots as u64);
    let first = slots.saturating_sub(points.len());
    html! {
        figure {
            figcaption {
                b { (requests) } (if requests == 1 { " request, " } else { " requests, " })
                span.key.rejected {} (rejected) " rejected, "
                span.key.failed {} (failed) " failed"
            }
            (frame(&format!("Requests since {from}"), &number(highest), from, &html! {
                @for (slot, point) in (first..).zip(points) {
                    @let x = count(slot as u64) * width;
                    @let others = point.requests.saturating_sub(point.rejected + point.failed);
                    (bar("answered", x, width, 0.0, count(others) / highest))
                    (bar("rejected", x, width, count(others) / highest, count(point.rejected) / highest))
                    (bar("failed", x, width, count(others + point.rejected) / highest, count(point.failed) / highest))
                }
            }))
        }
    }
}

/// Renders the median and the 99th percentile of the domain's latency as lines, the latest of `slots` at the right.
pub(super) fn latency_chart(points: &[Point], slots: usize, from: &str) -> Markup {
    let slowest = points.iter().filter_map(|point| point.p99_ms).fold(0.0, f64::max);
    let highest = nice_ceiling(slowest);
    let latest = |part: fn(&Point) -> Option<f64>| {
        points.iter().rev().find_map(part).map_or("none".to_owned(), |ms| format!("{} ms", number(ms)))
    };
    html! {
        figure {
            figcaption {
                "Latency of the domain, latest: "
                span.key.p50 {} "p50 " (latest(|point| point.p50_ms)) ", "
                span.key.p99 {} "p99 " (latest(|point| point.p99_ms))
            }
            (frame(&format!("Latency since {from}"), &format!("{} ms", number(highest)), from, &html! {
                path class="p50" d=(line(points, slots, highest, |point| point.p50_ms)) {}
                path class="p99" d=(line(points, slots, highest, |point| point.p99_ms)) {}
            }))
        }
    }
}

/// Renders a value as a bar against its limit.
pub(super) fn meter(name: &str, value: u64, limit: u64, text: &str) -> Markup {
    html! {
        div.meter {
            span { (name) }
            meter aria-label=(name) min="0" max=(limit.max(1)) high=(limit / 10 * 8) value=(value.min(limit)) {}
            span { (text) }
        }
    }
}

fn frame(title: &str, highest: &str, from: &str, content: &Markup) -> Markup {
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {}", HEIGHT + 36.0)) role="img" aria-label=(title) {
            path class="grid" d=(format!("M0 18H{WIDTH}M0 {}H{WIDTH}", 18.0 + HEIGHT)) {}
            (content)
            text x="0" y="13" { (highest) }
            text x="0" y=(HEIGHT + 33.0) { (from) }
            text x=(WIDTH) y=(HEIGHT + 33.0) text-anchor="end" { "now" }
        }
    }
}

/// Renders one part of a stacked bar, from `bottom` upwards, both as parts of the highest bar.
fn bar(class: &str, x: f64, width: f64, bottom: f64, share: f64) -> Markup {
    let height = share * HEIGHT;
    let y = 18.0 + HEIGHT - bottom * HEIGHT - height;
    html! {
        @if share > 0.0 {
            rect class=(class) x=(pixels(x)) y=(pixels(y)) width=(pixels(width * 0.85)) height=(pixels(height)) {}
        }
    }
}

/// Returns the path of a line that is interrupted where there is no value.
fn line(points: &[Point], slots: usize, highest: f64, value: fn(&Point) -> Option<f64>) -> String {
    let width = WIDTH / count(slots as u64);
    let first = slots.saturating_sub(points.len());
    let mut path = String::new();
    let mut is_drawing = false;
    for (slot, point) in (first..).zip(points) {
        let Some(value) = value(point) else {
            is_drawing = false;
            continue;
        };
        let x = pixels((count(slot as u64) + 0.5) * width);
        let y = pixels(18.0 + HEIGHT - value / highest * HEIGHT);
        // A line of no length is drawn as a dot, by its round ends.
        let (command, end) = if is_drawing { ('L', "") } else { ('M', "h0") };
        // Writing to a string does not fail.
        let _ = write!(path, "{command}{x} {y}{end}");
        is_drawing = true;
    }
    path
}

/// Returns the smallest of 1, 2, 5, 10, 20, … that is not below `value`.
fn nice_ceiling(value: f64) -> f64 {
    let decade = 10_f64.powf(value.max(1.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].iter().map(|step| step * decade).find(|nice| *nice >= value).unwrap_or(10.0 * decade)
}

fn number(value: f64) -> String {
    if value < 10.0 && value.fract() != 0.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn pixels(value: f64) -> String {
    format!("{value:.1}")
}

// A count is far below the largest integer that a float represents exactly.
#[expect(clippy::cast_precision_loss)]
fn count(count: u64) -> f64 {
    count as f64
}

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 110.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn point(requests: u64, p50_ms: Option<f64>) -> Point {
        Point { requests, failed: 1, rejected: 2, p50_ms, p99_ms: p50_ms }
    }

    #[test]
    fn ceiling_is_the_next_nice_number() {
        for (value, expected) in [(0.0, 1.0), (1.0, 1.0), (3.0, 5.0), (11.0, 20.0), (5001.0, 10_000.0)] {
            assert!((nice_ceiling(value) - expected).abs() < 1e-9, "{value}: {}", nice_ceiling(value));
        }
    }

    #[test]
    fn highest_bar_fills_the_chart() {
        let chart = request_chart(&[point(10, None)], 1, "1 h ago").into_string();
        // 7 answered, 2 rejected and 1 failed, of at most 10.
        for bar in [
            "<rect class=\"answered\" x=\"0.0\" y=\"51.0\" width=\"510.0\" height=\"77.0\"></rect>",
            "<rect class=\"rejected\" x=\"0.0\" y=\"29.0\" width=\"510.0\" height=\"22.0\"></rect>",
            "<rect class=\"failed\" x=\"0.0\" y=\"18.0\" width=\"510.0\" height=\"11.0\"></rect>",
        ] {
            assert!(chart.contains(bar), "{bar}: {chart}");
        }
    }

    #[test]
    fn line_is_interrupted_without_values() {
        let points = [point(1, Some(10.0)), point(1, None), point(1, Some(5.0)), point(1, Some(0.0))];
        assert_eq!(line(&points, 4, 10.0, |point| point.p50_ms), "M75.0 18.0h0M375.0 73.0h0L525.0 128.0");
    }
}
