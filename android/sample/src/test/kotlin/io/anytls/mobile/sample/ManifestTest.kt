package io.anytls.mobile.sample

import android.Manifest
import android.app.Activity
import android.app.Application
import android.app.Service
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import org.w3c.dom.Document
import org.w3c.dom.Element
import org.w3c.dom.Node
import java.io.File
import java.lang.reflect.Modifier
import javax.xml.parsers.DocumentBuilderFactory

/** What only the Android tools would notice otherwise: the XML, and what it names. */
class ManifestTest {
    private val main = File("src/main")
    private val manifest = parse(File(main, "AndroidManifest.xml")).documentElement
    private val sources = File(main, "kotlin").walk().filter { it.extension == "kt" }.toList()

    @Test
    fun every_screen_and_service_is_declared() {
        assertEquals(classesBelow<Activity>(), declared("activity").keys)
        assertEquals(classesBelow<Service>(), declared("service").keys)
        assertTrue(Application::class.java.isAssignableFrom(load(manifest.all("application").single().android("name"))))
    }

    @Test
    fun only_what_others_may_open_is_open_to_them() {
        val open = (declared("activity") + declared("service")).filterValues { it.android("exported") == "true" }

        assertEquals(setOf(".MainActivity", ".ConfigActivity", ".SwitchTile"), open.keys)
        assertEquals("android.permission.BIND_QUICK_SETTINGS_TILE", open.getValue(".SwitchTile").android("permission"))
        // Android refuses to install an app whose filters do not say whether they are open.
        for (component in manifest.all("intent-filter").map { it.parentNode as Element }) {
            assertTrue(component.android("name"), component.hasAttributeNS(ANDROID, "exported"))
        }
    }

    @Test
    fun links_and_shared_texts_lead_to_the_config_screen() {
        val filters = declared("activity").getValue(".ConfigActivity").all("intent-filter").map { filter ->
            filter.all("action").single().android("name") to
                filter.all("data").map { it.android("scheme") + it.android("mimeType") }
        }

        assertEquals(
            listOf(
                "android.intent.action.VIEW" to listOf("anytls"),
                "android.intent.action.SEND" to listOf("text/plain", "application/json"),
            ),
            filters,
        )
    }

    @Test
    fun every_resource_that_is_named_is_there() {
        val files = main.walk().filter { it.extension == "xml" }.toList()
        val names = files.flatMap { file -> parse(file).documentElement.attributes() }
            .filter { it.startsWith("@") && !it.startsWith("@android:") }

        assertTrue("$names", names.size >= 3)
        for (name in names.toSet()) {
            val (type, entry) = name.removePrefix("@").split('/')
            val isThere = files.any { file ->
                when (type) {
                    "drawable" -> file.parentFile.name.startsWith("drawable") && file.nameWithoutExtension == entry
                    else -> parse(file).documentElement.all(type).any { it.getAttribute("name") == entry }
                }
            }
            assertTrue(name, isThere)
        }
    }

    @Test
    fun the_logic_knows_nothing_of_android() {
        val logic = sources.filter { it.parentFile.name == "logic" }

        assertTrue(logic.isNotEmpty())
        for (file in logic) assertFalse(file.name, file.readLines().any { it.startsWith("import android.") })
    }

    @Test
    fun other_apps_windows_may_be_hidden() {
        val permissions = manifest.all("uses-permission").map { it.android("name") }

        assertEquals(listOf(Manifest.permission.HIDE_OVERLAY_WINDOWS), permissions)
    }

    @Test
    fun nothing_is_taken_along_by_backups() {
        assertEquals("false", manifest.all("application").single().android("allowBackup"))
    }

    private fun declared(tag: String): Map<String, Element> = manifest.all(tag).associateBy { it.android("name") }

    /** By file names: a class that can be started has a file of its own. */
    private inline fun <reified T> classesBelow(): Set<String> = sources
        .filter { it.parentFile.name == "sample" }
        .mapNotNull { file -> runCatching { load(".${file.nameWithoutExtension}") }.getOrNull() }
        .filter { T::class.java.isAssignableFrom(it) && !Modifier.isAbstract(it.modifiers) }
        .map { ".${it.simpleName}" }
        .toSet()

    private fun load(name: String): Class<*> =
        Class.forName("io.anytls.mobile.sample$name", false, javaClass.classLoader)

    private fun parse(file: File): Document =
        DocumentBuilderFactory.newInstance().apply { isNamespaceAware = true }.newDocumentBuilder().parse(file)

    private fun Element.all(tag: String): List<Element> =
        getElementsByTagName(tag).let { nodes -> (0 until nodes.length).map { nodes.item(it) as Element } }

    private fun Element.android(name: String): String = getAttributeNS(ANDROID, name)

    private fun Element.attributes(): List<String> = (listOf(this) + all("*")).flatMap { element ->
        (0 until element.attributes.length).map { (element.attributes.item(it) as Node).nodeValue }
    }

    private companion object {
        const val ANDROID = "http://schemas.android.com/apk/res/android"
    }
}
