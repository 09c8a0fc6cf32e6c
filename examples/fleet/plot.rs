//! The findings as a picture.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::wave::Wave;
use crate::{Findings, LIFETIME, SHOWN_OUTAGE};

type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

const SIZE: (u32, u32) = (1200, 820);
const TITLE: (&str, i32) = ("sans-serif", 18);
const SMALL: (&str, i32) = ("sans-serif", 14);
/// Distinct for the colour-blind as well; the last is ours.
const COLOURS: [RGBColor; 3] = [RGBColor(213, 94, 0), RGBColor(230, 159, 0), RGBColor(0, 114, 178)];
const OURS: RGBColor = COLOURS[2];

/// An SVG, whose text is left to the fonts of who looks at it.
pub fn draw(findings: &Findings) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    draw_panels(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), findings)?;
    Ok(svg)
}

fn draw_panels(root: &Panel<'_>, findings: &Findings) -> Drawn {
    root.fill(&WHITE)?;
    let [restart, rotation, presets, background] = &root.split_evenly((2, 2))[..] else {
        unreachable!("two by two")
    };
    draw_restart(restart, findings)?;
    draw_rotation(rotation, findings)?;
    draw_presets(presets, findings)?;
    draw_background(background, findings)?;
    root.present()?;
    Ok(())
}

fn draw_restart(panel: &Panel<'_>, findings: &Findings) -> Drawn {
    let shown = findings.restarts.iter().find(|(away, _)| *away == SHOWN_OUTAGE);
    let Some((away, waves)) = shown else { return Ok(()) };
    let phones = findings.fleet.phones;
    let title = format!("Dials at a server that is away for {} s, {phones} phones", away.as_secs());
    let label = |name, peak| format!("{name}: at most {peak:.0} a second after its return");
    let curves = waves.iter().map(|(retry, wave)| (label(retry.name(), wave.peak_after_return()), wave));
    let seconds = (away.as_secs_f64() * 2.5, 1.0, "s since it went");
    draw_waves(panel, &title, seconds, &curves.collect::<Vec<_>>())
}

fn draw_rotation(panel: &Panel<'_>, findings: &Findings) -> Drawn {
    let minutes = LIFETIME.as_secs() / 60;
    let title = format!("Rotation of sessions of one age, max_connection_lifetime {minutes}m");
    let label = |jitter: u64, peak| match jitter {
        0 => format!("no jitter: at most {peak:.0} a second"),
        jitter => format!("jitter {jitter}m: at most {peak:.0} a second"),
    };
    let curves = findings
        .rotations
        .iter()
        .map(|(jitter, wave)| (label(jitter.as_secs() / 60, wave.peak(LIFETIME / 2)), wave));
    draw_waves(panel, &title, (240.0, 60.0, "minutes"), &curves.collect::<Vec<_>>())
}

/// The x axis is given as its end, its unit in seconds, and its name; each curve with its label.
fn draw_waves(
    panel: &Panel<'_>,
    title: &str,
    (end, unit, x_name): (f64, f64, &str),
    curves: &[(String, &Wave)],
) -> Drawn {
    let top = curves.iter().map(|(_, wave)| wave.peak_from_start()).fold(1.0, f64::max) * 60.0; // with room for the legend
    let floor = curves.iter().map(|(_, wave)| 1.0 / wave.bin.as_secs_f64()).fold(1.0, f64::min);
    let mut chart = ChartBuilder::on(panel)
        .margin(12)
        .caption(title, TITLE)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..end, (floor..top).log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.1))
        .label_style(SMALL)
        .x_desc(x_name)
        .y_desc("dials/s")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y}"))
        .draw()?;
    let colours = &COLOURS[COLOURS.len() - curves.len()..];
    for ((label, wave), &colour) in curves.iter().zip(colours) {
        let points = wave.points().map(|(at, rate)| (at / unit, rate.max(floor)));
        chart
            .draw_series(LineSeries::new(points.take_while(|&(at, _)| at <= end), colour.stroke_width(2)))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .label_font(SMALL)
        .draw()?;
    Ok(())
}

fn draw_presets(panel: &Panel<'_>, findings: &Findings) -> Drawn {
    let percent: Vec<_> = findings
        .presets
        .iter()
        .map(|(name, cost)| (name, cost.battery_beyond(&findings.bare) * 100.0))
        .collect();
    let most = percent.iter().map(|&(_, percent)| percent).fold(0.0, f64::max);
    let count = percent.len();
    let mut chart = ChartBuilder::on(panel)
        .margin(12)
        .caption("What keeping sessions takes of a battery in a day, by preset", TITLE)
        .x_label_area_size(40)
        .y_label_area_size(190)
        .build_cartesian_2d(0.0..most * 1.2, (0..count - 1).into_segmented())?;
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(number) => {
            percent.get(*number).map(|(name, _)| (*name).clone()).unwrap_or_default()
        }
        SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_mesh()
        .label_style(SMALL)
        .y_labels(count)
        .y_label_formatter(&name)
        .x_desc("% of 62 kJ, LTE all day")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .draw()?;
    for (number, &(name, percent)) in percent.iter().enumerate() {
        let colour = if name == "mobile" { OURS } else { COLOURS[1] };
        let (from, to) = (SegmentValue::Exact(number), SegmentValue::Exact(number + 1));
        let mut bar = Rectangle::new([(0.0, from), (percent, to)], colour.filled());
        bar.set_margin(4, 4, 0, 0);
        chart.draw_series([bar])?;
        let label = Text::new(
            format!("{percent:.1}"),
            (percent + most / 100.0, SegmentValue::CenterOf(number)),
            SMALL,
        );
        chart.draw_series([label])?;
    }
    Ok(())
}

fn draw_background(panel: &Panel<'_>, findings: &Findings) -> Drawn {
    let points: Vec<_> = findings
        .background
        .iter()
        .map(|(interval, cost)| (interval.as_secs_f64(), cost.battery_beyond(&findings.bare) * 100.0))
        .collect();
    let most = points.iter().map(|&(_, percent)| percent).fold(0.0, f64::max);
    let longest = points.iter().map(|&(interval, _)| interval).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(panel)
        .margin(12)
        .caption("The same of preset mobile, by heartbeat_background", TITLE)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..longest * 1.2, 0.0..most * 1.1)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.1))
        .label_style(SMALL)
        .x_desc("s between heartbeats in the background")
        .y_desc("% of 62 kJ")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    chart.draw_series(LineSeries::new(points.iter().copied(), OURS.stroke_width(2)))?;
    chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, OURS.filled())))?;
    for &(interval, percent) in &points {
        let label = format!("{interval:.0} s: {percent:.1} %");
        chart.draw_series([Text::new(label, (interval + longest / 100.0, percent + most / 20.0), SMALL)])?;
    }
    Ok(())
}
