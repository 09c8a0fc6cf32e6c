import SampleLogic
import SwiftUI

/// The sessions with the server, and the apps' connections; a tap on one of these offers to close it.
struct TrafficScreen: View {
  @EnvironmentObject private var model: VPNModel
  @State private var sessions: [Row] = []
  @State private var connections: [Row] = []
  @State private var chosen: Row?
  @State private var isChosen = false

  var body: some View {
    List {
      section(Texts.sessions, sessions) { label($0) }
      section(Texts.connections, connections) { row in
        Button {
          (chosen, isChosen) = (row, true)
        } label: {
          label(row)
        }
        .buttonStyle(.plain)
      }
    }
    .navigationTitle(Texts.traffic)
    .navigationBarTitleDisplayMode(.inline)
    .everySecond { await refresh() }
    .confirmationDialog(
      Texts.closeConnection, isPresented: $isChosen, titleVisibility: .visible, presenting: chosen
    ) { row in
      Button(Texts.close, role: .destructive) { Task { await model.close(connection: row.id) } }
    } message: { row in
      Text(row.title)
    }
  }

  private func refresh() async {
    let client = model.vpn.client
    sessions = sessionRows((try? await client.sessions()) ?? [])
    connections = connectionRows((try? await client.connections()) ?? [])
  }

  private func section(
    _ title: String, _ rows: [Row], @ViewBuilder row: @escaping (Row) -> some View
  ) -> some View {
    Section(title) {
      if rows.isEmpty { Text(Texts.nothingOpen).foregroundColor(.secondary) }
      ForEach(rows) { row($0) }
    }
  }

  private func label(_ row: Row) -> some View {
    VStack(alignment: .leading) {
      Text(row.title)
      Text(row.detail).font(.caption).foregroundColor(.secondary)
    }
    .frame(maxWidth: .infinity, alignment: .leading)
    .contentShape(Rectangle())
  }
}
