package io.anytls.mobile.android

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.File
import java.security.KeyStoreException
import java.security.ProviderException
import javax.crypto.KeyGenerator
import javax.crypto.SecretKey

class ConfigStoreTest : VpnTest() {
    @get:Rule
    val folder = TemporaryFolder()

    private val file get() = File(folder.root, "config")
    private val key: SecretKey = KeyGenerator.getInstance("AES").apply { init(256) }.generateKey()

    @Test
    fun what_is_saved_is_loaded() {
        for (config in CONFIGS) {
            ConfigStore(file, ::key).save(config)
            assertEquals(config, ConfigStore(file, ::key).load())
        }
    }

    @Test
    fun what_is_saved_without_a_key_store_is_loaded() {
        for (config in CONFIGS) {
            ConfigStore(file, ::noKey).save(config)
            assertEquals(config, ConfigStore(file, ::noKey).load())
        }
    }

    @Test
    fun with_a_key_store_the_password_cannot_be_read() {
        val store = ConfigStore(file, ::key)
        store.save(CONFIGS[0])
        assertFalse("secret" in file.readText(Charsets.ISO_8859_1))
        val before = file.readBytes()
        store.save(CONFIGS[0])
        assertFalse("each file has a nonce of its own", before.contentEquals(file.readBytes()))
    }

    @Test
    fun a_busy_key_store_is_asked_again() {
        var turns = 0
        val store = ConfigStore(file) { if (turns++ % 2 == 0) Unusable else key }
        store.save(CONFIGS[0])
        assertFalse("secret" in file.readText(Charsets.ISO_8859_1))
        assertEquals(CONFIGS[0], store.load())
    }

    @Test
    fun a_key_store_that_fails_while_it_is_used_is_none() {
        ConfigStore(file, ::key).save(CONFIGS[0])
        val store = ConfigStore(file) { Unusable }
        assertNull(store.load())
        store.save(CONFIGS[1])
        assertEquals(CONFIGS[1], store.load())
    }

    @Test
    fun nothing_saved_is_nothing_loaded() {
        assertNull(ConfigStore(file, ::key).load())
    }

    @Test
    fun what_cannot_be_read_is_nothing() {
        val store = ConfigStore(file, ::key)
        store.save(CONFIGS[0])
        val good = file.readBytes()
        val cut = good.dropLast(1).toByteArray()
        for (bad in listOf(ByteArray(0), byteArrayOf(7), byteArrayOf(1, 2), cut, "\u0000{".toByteArray())) {
            file.writeBytes(bad)
            assertNull("${bad.size} bytes", store.load())
        }
        file.writeBytes(good)
        val other = KeyGenerator.getInstance("AES").generateKey()
        assertNull("a phone that has lost its key", ConfigStore(file) { other }.load())
        assertNull("a phone whose key store has died", ConfigStore(file, ::noKey).load())
        assertEquals(CONFIGS[0], store.load())
    }

    @Test
    fun a_write_that_does_not_finish_leaves_what_was_there() {
        val store = ConfigStore(file, ::key)
        store.save(CONFIGS[0])
        val before = file.readBytes()
        File(folder.root, "config.new").writeText("half of i")
        assertArrayEquals(before, file.readBytes())
        assertEquals(CONFIGS[0], store.load())
    }

    @Test
    fun the_apps_file_is_in_no_backup() {
        ConfigStore(app).save(CONFIGS[0])
        assertTrue(app.noBackupFilesDir.list()!!.isNotEmpty())
        assertEquals(CONFIGS[0], ConfigStore(app).load())
        ConfigStore(app).clear()
        assertNull(ConfigStore(app).load())
    }

    @Test
    fun a_config_does_not_print_its_password() {
        assertFalse("secret" in CONFIGS[0].toString())
    }

    private object Unusable : SecretKey {
        override fun getAlgorithm() = "AES"

        override fun getFormat() = "RAW"

        override fun getEncoded(): ByteArray = throw ProviderException("busy")
    }

    private fun noKey(): SecretKey = throw KeyStoreException("no such store")

    private companion object {
        val CONFIGS = listOf(
            VpnConfig("anytls://secret@vpn.example/"),
            VpnConfig("{}", VpnOptions("a \"name\"", AppFilter.Only(setOf("a.b", "c.d")), excludeOwnTraffic = true)),
            VpnConfig("ü", VpnOptions(apps = AppFilter.Except(emptySet()), isBypassAllowed = true, isMetered = true)),
        )
    }
}
