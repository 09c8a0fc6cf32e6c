package io.anytls.mobile.sample.logic

import io.anytls.mobile.android.AppFilter
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Test

class AppChoiceTest {
    private val mail = InstalledApp("org.example.mail", "Mail")
    private val maps = InstalledApp("org.example.maps", "atlas")
    private val shop = InstalledApp("com.shop", "Shop")
    private val own = InstalledApp("io.anytls.mobile.sample", "AnyTLS")

    @Test
    fun a_filter_comes_back_as_it_was() {
        for (filter in listOf(AppFilter.All, AppFilter.Only(setOf("a", "b")), AppFilter.Except(setOf("c")))) {
            assertEquals(filter, AppChoice.of(filter).filter())
        }
    }

    @Test
    fun all_but_none_is_all() {
        assertEquals(AppFilter.All, AppChoice(AppMode.EXCEPT, emptySet()).filter())
    }

    @Test
    fun only_none_is_refused() {
        val none = AppChoice(AppMode.ONLY, emptySet())

        assertEquals(Texts.CHOOSE_AN_APP, none.problem)
        assertNull(none.with("a", true).problem)
        assertNull(none.copy(mode = AppMode.ALL).problem)
    }

    @Test
    fun chosen_apps_outlive_a_change_of_mode() {
        val all = AppChoice(AppMode.ONLY, setOf("a")).copy(mode = AppMode.ALL)
        val choice = all.with("b", true).copy(mode = AppMode.EXCEPT)

        assertEquals(AppFilter.Except(setOf("a", "b")), choice.filter())
        assertEquals(AppFilter.Except(setOf("b")), choice.with("a", false).filter())
    }

    @Test
    fun chosen_apps_are_on_top_and_the_rest_by_name() {
        val list = AppList(listOf(shop, mail, maps, own), setOf(shop.packageName), own.packageName)

        assertEquals(listOf(shop, maps, mail), list.matching(""))
    }

    @Test
    fun a_chosen_app_that_is_gone_can_still_be_taken_off() {
        val list = AppList(listOf(mail), setOf("com.gone"), own.packageName)

        assertEquals(listOf(InstalledApp("com.gone", "com.gone (not installed)"), mail), list.matching(""))
    }

    @Test
    fun a_search_looks_at_names_and_packages_for_every_word() {
        val list = AppList(listOf(mail, maps, shop), emptySet(), own.packageName)

        assertEquals(listOf(maps), list.matching("ATL"))
        assertEquals(listOf(maps, mail), list.matching("example"))
        assertEquals(listOf(mail), list.matching(" example  ma mail "))
        assertEquals(emptyList<InstalledApp>(), list.matching("nothing"))
    }

    @Test
    fun a_choice_is_told_in_words() {
        assertEquals("All apps use the VPN", describe(AppFilter.All))
        assertEquals("Only 1 app uses the VPN", describe(AppFilter.Only(setOf("a"))))
        assertEquals("All apps but 2 use the VPN", describe(AppFilter.Except(setOf("a", "b"))))
    }
}
