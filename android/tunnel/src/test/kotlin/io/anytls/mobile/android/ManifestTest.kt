package io.anytls.mobile.android

import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.w3c.dom.Element
import java.io.File
import javax.xml.parsers.DocumentBuilderFactory

/** What the library adds to an app's manifest. */
class ManifestTest {
    private val manifest: Element = DocumentBuilderFactory.newInstance().apply { isNamespaceAware = true }
        .newDocumentBuilder().parse(File("src/main/AndroidManifest.xml")).documentElement
    private val service = manifest.all("service").single()

    @Test
    fun only_android_may_bind_the_service_and_it_finds_it() {
        assertEquals(AnyTlsVpnService::class.java.name, service.android("name"))
        assertEquals("android.permission.BIND_VPN_SERVICE", service.android("permission"))
        assertEquals("true", service.android("exported"))
        assertEquals("android.net.VpnService", service.all("action").single().android("name"))
    }

    @Test
    fun both_foreground_types_are_declared_and_permitted() {
        assertEquals("systemExempted|specialUse", service.android("foregroundServiceType"))
        val permissions = manifest.all("uses-permission").map { it.android("name").removePrefix("android.permission.") }
        val wanted = listOf(
            "FOREGROUND_SERVICE",
            "FOREGROUND_SERVICE_SYSTEM_EXEMPTED",
            "FOREGROUND_SERVICE_SPECIAL_USE",
            "POST_NOTIFICATIONS",
            "INTERNET",
            "ACCESS_NETWORK_STATE",
        )
        assertTrue("$permissions", permissions.containsAll(wanted))
        assertEquals("android.app.PROPERTY_SPECIAL_USE_FGS_SUBTYPE", service.all("property").single().android("name"))
    }

    @Test
    fun no_permission_is_taken_from_the_app() {
        assertTrue(manifest.all("uses-permission").all { it.android("maxSdkVersion").isEmpty() })
    }

    private fun Element.all(tag: String): List<Element> =
        getElementsByTagName(tag).run { (0 until length).map { item(it) as Element } }

    private fun Element.android(name: String): String =
        getAttributeNS("http://schemas.android.com/apk/res/android", name)
}
