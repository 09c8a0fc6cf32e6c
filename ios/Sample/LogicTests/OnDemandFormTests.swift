import AnyTLSMobile
import Foundation
import SampleLogic
import XCTest

final class OnDemandFormTests: XCTestCase {
  func testEveryChoiceComesBackFromWhatIsSaved() {
    for isEnabled in [false, true] {
      for wifi in OnDemand.Action.allCases {
        for cellular in OnDemand.Action.allCases {
          for names in [[], ["Home"], ["Home", "Work"]] {
            var form = OnDemandForm()
            (form.isEnabled, form.onWifi, form.onCellular) = (isEnabled, wifi, cellular)
            for name in names { add(name, to: &form) }

            XCTAssertEqual(form.trusted, names)
            XCTAssertEqual(OnDemandForm(form.onDemand), form)
          }
        }
      }
    }
  }

  func testWhoeverTurnsTheRulesOnFirstGetsTheVPNEverywhere() {
    var form = OnDemandForm(.off)
    XCTAssertFalse(form.onDemand.isEnabled)

    form.isEnabled = true
    XCTAssertEqual(form.onDemand, .always)
  }

  func testNamedNetworksComeBeforeTheRuleForAll() {
    var form = OnDemandForm(.always)
    add("Home", to: &form)

    let rules: [OnDemand.Rule] = [.init(.wifiNamed(["Home"]), .disconnect), .init(.any, .connect)]
    XCTAssertEqual(form.onDemand.rules, rules)
  }

  func testKindsOfNetworksHaveRulesOfTheirOwnWhereTheyDiffer() {
    var form = OnDemandForm(.always)
    form.onWifi = .ignore

    XCTAssertEqual(form.onDemand.rules, [.init(.wifi, .ignore), .init(.cellular, .connect)])
  }

  func testRulesOfAnotherOriginAreReadAsTheSystemDoes() {
    let form = OnDemandForm(
      OnDemand(rules: [.init(.cellular, .disconnect), .init(.any, .connect), .init(.wifi, .ignore)]))

    XCTAssertEqual(form.onCellular, .disconnect)
    XCTAssertEqual(form.onWifi, .connect)
    XCTAssertEqual(OnDemandForm(OnDemand(rules: [.init(.wifi, .connect)])).onCellular, .ignore)
  }

  func testANameIsAddedOnceAndWithoutBlanks() {
    var form = OnDemandForm()
    add("  Home \n", to: &form)
    XCTAssertEqual(form.newName, "")
    add("Home", to: &form)
    add("   ", to: &form)

    XCTAssertNil(form.nameToAdd)
    XCTAssertEqual(form.trusted, ["Home"])
  }

  func testNamesAreTakenOffByTheirPlaces() {
    var form = OnDemandForm()
    for name in ["a", "b", "c", "d"] { add(name, to: &form) }
    form.removeNames(at: IndexSet([0, 2, 9]))

    XCTAssertEqual(form.trusted, ["b", "d"])
  }

  func testTheConsequenceIsNamed() {
    var form = OnDemandForm()
    XCTAssertEqual(form.consequence, Texts.onDemandOff)
    form.isEnabled = true
    XCTAssertEqual(form.consequence, Texts.onDemandComesBack)
    (form.onWifi, form.onCellular) = (.disconnect, .ignore)
    XCTAssertEqual(form.consequence, Texts.neverTurnsOn)
  }

  private func add(_ name: String, to form: inout OnDemandForm) {
    form.newName = name
    form.addName()
  }
}
