//! The rows as bars.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::client::Kind;
use crate::results::{Results, short};
use crate::rows::{ALL, Row};

type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

const SIZE: (u32, u32) = (1200, 900);
const TITLE: (&str, i32) = ("sans-serif", 18);
const SMALL: (&str, i32) = ("sans-serif", 13);

/// Distinct for the colour-blind as well.
fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Ours => RGBColor(0, 114, 178),
        Kind::System => RGBColor(230, 159, 0),
        Kind::Gvisor => RGBColor(213, 94, 0),
    }
}

fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Ours => "ours",
        Kind::System => "sing-box, system",
        Kind::Gvisor => "sing-box, gvisor",
    }
}

/// An SVG, whose text is left to the fonts of who looks at it.
pub fn draw(results: &Results) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let panels = root.split_evenly((2, 2));
        let throughput = |row: &Row| row.unit == "Mbit/s";
        let cost = |row: &Row| row.unit == "s/GB" || row.unit == "% of a core";
        let memory = |row: &Row| ["idle", "flood", "closed-5000"].contains(&row.measure) && row.unit == "MB";
        let latency = |row: &Row| row.unit == "µs";
        bars(&panels[0], "Mbit/s: more is better", results, &throughput)?;
        bars(&panels[1], "CPU, seconds for 10⁹ bytes, and % of a core: less is better", results, &cost)?;
        bars(&panels[2], "Memory, MB: less is better", results, &memory)?;
        bars(&panels[3], "Microseconds: less is better", results, &latency)?;
        root.present()?;
    }
    Ok(svg)
}

/// A group of bars for each row, on a scale that shows tens and thousands.
fn bars(panel: &Panel<'_>, title: &str, results: &Results, is_shown: &dyn Fn(&Row) -> bool) -> Drawn {
    let rows: Vec<&Row> = ALL.iter().filter(|row| is_shown(row)).collect();
    let value = |row: &Row, kind| row.of(results, kind).filter(|value| *value > 0.0);
    let all = || rows.iter().flat_map(|row| Kind::ALL.into_iter().filter_map(|kind| value(row, kind)));
    let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    if most <= 0.0 {
        return Ok(());
    }
    let bottom = least / 2.0;
    let count = u32::try_from(rows.len())?;
    let mut chart = ChartBuilder::on(panel)
        .margin(12)
        .caption(title, TITLE)
        .x_label_area_size(16)
        .y_label_area_size(190)
        .build_cartesian_2d((bottom..most * 2.0).log_scale(), 0.0..f64::from(count))?;
    let origin = panel.get_base_pixel();
    let beside = SMALL.into_text_style(panel).pos(Pos::new(HPos::Right, VPos::Center));
    chart.configure_mesh().disable_mesh().y_labels(0).x_labels(0).draw()?;
    for (number, row) in (0..count).rev().zip(&rows) {
        let floor = f64::from(number);
        let (x, y) = chart.backend_coord(&(bottom, floor + 0.5));
        panel.draw(&Text::new(row.what, (x - origin.0 - 8, y - origin.1), beside.clone()))?;
        for (place, kind) in (0..3).rev().zip(Kind::ALL) {
            let Some(value) = value(row, kind) else { continue };
            let (low, high) = (floor + 0.1 + f64::from(place) * 0.27, floor + 0.35 + f64::from(place) * 0.27);
            chart.draw_series([Rectangle::new([(bottom, low), (value, high)], colour(kind).filled())])?;
            chart.draw_series([Text::new(short(value), (value * 1.03, high), SMALL)])?;
        }
    }
    for kind in Kind::ALL {
        chart
            .draw_series(std::iter::empty::<Rectangle<(f64, f64)>>())?
            .label(label(kind))
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour(kind).filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .label_font(SMALL)
        .draw()?;
    Ok(())
}
