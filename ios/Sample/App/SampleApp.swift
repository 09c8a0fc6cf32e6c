import SwiftUI

@main
struct SampleApp: App {
  @StateObject private var model = VPNModel()

  var body: some Scene {
    WindowGroup {
      MainView()
        .environmentObject(model)
        .onOpenURL { model.follow($0) }
    }
  }
}

/// Does `work` now and every second, while the view is on the screen and the app in front.
private struct EverySecond: ViewModifier {
  @Environment(\.scenePhase) private var phase
  let work: @MainActor () async -> Void

  func body(content: Content) -> some View {
    content.task(id: phase) {
      guard phase == .active else { return }
      while !Task.isCancelled {
        await work()
        try? await Task.sleep(nanoseconds: 1_000_000_000)
      }
    }
  }
}

extension View {
  func everySecond(_ work: @escaping @MainActor () async -> Void) -> some View {
    modifier(EverySecond(work: work))
  }
}
