import SampleLogic
import SwiftUI

/// The last minute: what came down as an area, what went up as a line, and the scale.
struct SpeedGraphView: View {
  let graph: SpeedGraph

  var body: some View {
    GeometryReader { place in
      ZStack(alignment: .topLeading) {
        path(graph.downArea, in: place.size).fill(Color.blue.opacity(0.5))
        path(graph.upLine, in: place.size).stroke(Color.orange, lineWidth: 2)
        Rectangle().stroke(Color.secondary)
        Text(Format.speed(graph.top)).font(.caption).foregroundColor(.secondary).padding(4)
      }
    }
    .frame(height: 120)
    .accessibilityElement(children: .ignore)
    .accessibilityLabel(graph.label)
  }

  private func path(_ points: [GraphPoint], in size: CGSize) -> Path {
    Path { $0.addLines(points.map { CGPoint(x: $0.x * size.width, y: $0.y * size.height) }) }
  }
}
