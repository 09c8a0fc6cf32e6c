//! The rows as bars, a panel for each unit.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::client::Kind;
use crate::results::{Results, short};
use crate::rows::{ALL, Row};

type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

const SIZE: (u32, u32) = (1200, 860);
const LEGEND_HEIGHT: u32 = 40;
const UPPER_HEIGHT: u32 = 480;
const TITLE: (&str, i32) = ("sans-serif", 18);
const SMALL: (&str, i32) = ("sans-serif", 13);

fn label(kind: Kind) -> (&'static str, RGBColor) {
    // Distinct for the colour-blind as well.
    match kind {
        Kind::Ours => ("anytls-mobile", RGBColor(0, 114, 178)),
        Kind::System => ("sing-box, stack: system", RGBColor(230, 159, 0)),
        Kind::Gvisor => ("sing-box, stack: gvisor", RGBColor(213, 94, 0)),
    }
}

/// An SVG, whose text is left to the fonts of who looks at it.
pub fn draw(results: &Results) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (top, rest) = root.split_vertically(LEGEND_HEIGHT);
        let (upper, lower) = rest.split_vertically(UPPER_HEIGHT);
        legend(&top)?;
        let (left, right) = upper.split_horizontally(SIZE.0 / 2);
        bars(&left, "Mbit/s: more is better", results, |row| row.unit == "Mbit/s")?;
        bars(&right, "CPU seconds for 10⁹ bytes: less is better", results, |row| row.unit == "s/GB")?;
        let memory = |row: &Row| row.unit == "MB" && row.measure != "library";
        let lower = lower.split_evenly((1, 3));
        bars(&lower[0], "MB: less is better", results, memory)?;
        bars(&lower[1], "% of a core: less is better", results, |row| row.unit == "% of a core")?;
        bars(&lower[2], "µs: less is better", results, |row| row.unit == "µs")?;
        root.present()?;
    }
    Ok(svg)
}

fn legend(panel: &Panel<'_>) -> Drawn {
    for (place, kind) in (0..).zip(Kind::ALL) {
        let (name, colour) = label(kind);
        let x = 230 + place * 250;
        panel.draw(&Rectangle::new([(x, 16), (x + 16, 30)], colour.filled()))?;
        panel.draw(&Text::new(name, (x + 24, 16), SMALL))?;
    }
    Ok(())
}

/// A group of bars for each row that is shown, from zero.
fn bars(panel: &Panel<'_>, title: &str, results: &Results, is_shown: impl Fn(&Row) -> bool) -> Drawn {
    let rows: Vec<&Row> = ALL.iter().filter(|row| is_shown(row)).collect();
    let values = rows.iter().flat_map(|row| Kind::ALL.into_iter().filter_map(|kind| row.of(results, kind)));
    let most = values.fold(0.0, f64::max);
    if most <= 0.0 {
        return Ok(()); // nothing was measured
    }
    let count = u32::try_from(rows.len())?;
    let mut chart = ChartBuilder::on(panel)
        .margin(12)
        .caption(title, TITLE)
        .y_label_area_size(185)
        .build_cartesian_2d(0.0..most * 1.2, 0.0..f64::from(count))?;
    chart.configure_mesh().disable_mesh().y_labels(0).draw()?;
    let origin = panel.get_base_pixel();
    let beside = SMALL.into_text_style(panel).pos(Pos::new(HPos::Right, VPos::Center));
    let behind = SMALL.into_text_style(panel).pos(Pos::new(HPos::Left, VPos::Center));
    for (number, row) in (0..count).rev().zip(rows) {
        let floor = f64::from(number);
        let (x, y) = chart.backend_coord(&(0.0, floor + 0.5));
        panel.draw(&Text::new(row.what, (x - origin.0 - 8, y - origin.1), beside.clone()))?;
        for (place, kind) in (0..3).rev().zip(Kind::ALL) {
            let Some(value) = row.of(results, kind) else { continue };
            let low = floor + 0.1 + f64::from(place) * 0.27;
            let bar = Rectangle::new([(0.0, low), (value.max(0.0), low + 0.25)], label(kind).1.filled());
            chart.draw_series([bar])?;
            let at = (value.max(0.0) + most * 0.01, low + 0.125);
            chart.draw_series([Text::new(short(value), at, behind.clone())])?;
        }
    }
    Ok(())
}
