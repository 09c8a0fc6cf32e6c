import Foundation
import XCTest

/// Whoever copies from a README has code that compiles.
final class ReadmeTests: XCTestCase {
  func testTheCodeInTheReadmesIsCompiled() throws {
    let here = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    let compiled = try words(
      String(contentsOf: here.appendingPathComponent("Snippets.swift"), encoding: .utf8))
    for (readme, count) in [("ios/README.md", 2), ("bindings/README.md", 2)] {
      let file = here.appendingPathComponent("../../../../\(readme)")
      let snippets = try snippets(in: String(contentsOf: file, encoding: .utf8))
      XCTAssertEqual(snippets.count, count, readme)
      for snippet in snippets { XCTAssertTrue(compiled.contains(words(snippet)), "\(readme): \(snippet)") }
    }
  }

  private func snippets(in text: String) -> [String] {
    text.components(separatedBy: "```swift\n").dropFirst().map { $0.components(separatedBy: "```")[0] }
  }

  /// Without the imports, however it is indented.
  private func words(_ code: String) -> String {
    code.split(separator: "\n").filter { !$0.contains("import ") }
      .flatMap { $0.split(separator: " ") }.joined(separator: " ")
  }
}
