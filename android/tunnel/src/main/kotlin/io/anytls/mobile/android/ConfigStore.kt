package io.anytls.mobile.android

import android.content.Context
import android.security.keystore.KeyGenParameterSpec
import android.security.keystore.KeyProperties
import android.util.AtomicFile
import android.util.Log
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject
import java.io.File
import java.io.FileNotFoundException
import java.io.IOException
import java.security.GeneralSecurityException
import java.security.KeyStore
import java.security.KeyStoreException
import java.security.ProviderException
import javax.crypto.Cipher
import javax.crypto.KeyGenerator
import javax.crypto.SecretKey
import javax.crypto.spec.GCMParameterSpec

/**
 * The config of the last start, for always-on and for a service that was killed. A file that only this app can read
 * and that no backup takes along; encrypted where the phone's key store works, and plain where it does not (on some
 * phones it never does, and a VPN that does not start is worse). Blocks.
 *
 * ```text
 * form (1): PLAIN, or SEALED with nonce (12) and tag (16) | JSON
 * ```
 */
internal class ConfigStore(file: File, private val key: () -> SecretKey) {
    constructor(context: Context) : this(File(context.noBackupFilesDir, "anytls-vpn"), ::phoneKey)

    private val file = AtomicFile(file)

    /** @throws IOException when the config could not be written; the one before is still there then */
    fun save(config: VpnConfig): Unit = synchronized(TURN) {
        val plain = write(config).toByteArray()
        val bytes = try {
            byteArrayOf(SEALED) + seal(plain)
        } catch (e: GeneralSecurityException) {
            Log.w(TAG, "the key store does not work, so the config is saved unencrypted: $e")
            byteArrayOf(PLAIN) + plain
        }
        val out = file.startWrite()
        try {
            out.write(bytes)
            file.finishWrite(out)
        } catch (e: IOException) {
            file.failWrite(out)
            throw e
        }
    }

    /** Null when nothing was saved, or when it cannot be read any more. */
    fun load(): VpnConfig? = try {
        val bytes = synchronized(TURN) { file.readFully() }
        val rest = bytes.drop(1).toByteArray()
        when (bytes.firstOrNull()) {
            PLAIN -> read(String(rest))
            SEALED -> read(String(open(rest)))
            else -> null
        }
    } catch (_: FileNotFoundException) {
        null
    } catch (e: IOException) {
        unreadable(e)
    } catch (e: GeneralSecurityException) {
        unreadable(e)
    } catch (e: JSONException) {
        unreadable(e)
    }

    fun clear(): Unit = synchronized(TURN) { file.delete() }

    private fun unreadable(e: Exception): VpnConfig? {
        Log.w(TAG, "the saved config cannot be read: ${e.javaClass.simpleName}") // a message could quote it
        return null
    }

    private fun seal(plain: ByteArray): ByteArray = withKey { key ->
        val cipher = Cipher.getInstance(CIPHER)
        cipher.init(Cipher.ENCRYPT_MODE, key)
        cipher.iv + cipher.doFinal(plain)
    }

    private fun open(sealed: ByteArray): ByteArray {
        if (sealed.size < NONCE_BYTES) throw IOException("too short")
        return withKey { key ->
            val cipher = Cipher.getInstance(CIPHER)
            cipher.init(Cipher.DECRYPT_MODE, key, GCMParameterSpec(TAG_BITS, sealed, 0, NONCE_BYTES))
            cipher.doFinal(sealed, NONCE_BYTES, sealed.size - NONCE_BYTES)
        }
    }

    /** Tries twice: a store that is but busy answers the second time. */
    private fun <T> withKey(use: (SecretKey) -> T): T = try {
        use(key())
    } catch (e: GeneralSecurityException) {
        again(e, use)
    } catch (e: ProviderException) { // how Android's own code reports a store that does not answer
        again(e, use)
    }

    private fun <T> again(first: Exception, use: (SecretKey) -> T): T {
        Log.w(TAG, "the key store is asked again: $first")
        try {
            return use(key())
        } catch (e: ProviderException) {
            throw KeyStoreException(e)
        }
    }

    private companion object {
        /** The service and the app have a store each, of one file. */
        val TURN = Any()
        const val PLAIN: Byte = 0
        const val SEALED: Byte = 1
        const val CIPHER = "AES/GCM/NoPadding"
        const val NONCE_BYTES = 12
        const val TAG_BITS = 128
    }
}

/** The key lives in the phone's key store and never leaves it. */
private fun phoneKey(): SecretKey = try {
    storedKey()
} catch (e: IOException) {
    throw KeyStoreException(e)
}

private fun storedKey(): SecretKey {
    val store = KeyStore.getInstance(KEY_STORE).apply { load(null) }
    (store.getKey(KEY_ALIAS, null) as SecretKey?)?.let { return it }
    val purposes = KeyProperties.PURPOSE_ENCRYPT or KeyProperties.PURPOSE_DECRYPT
    val settings = KeyGenParameterSpec.Builder(KEY_ALIAS, purposes)
        .setBlockModes(KeyProperties.BLOCK_MODE_GCM)
        .setEncryptionPaddings(KeyProperties.ENCRYPTION_PADDING_NONE)
        .build()
    return KeyGenerator.getInstance(KeyProperties.KEY_ALGORITHM_AES, KEY_STORE).apply { init(settings) }.generateKey()
}

private fun write(config: VpnConfig): String {
    val options = config.options
    val apps = when (val apps = options.apps) {
        AppFilter.All -> null
        is AppFilter.Only -> "only" to apps.packages
        is AppFilter.Except -> "except" to apps.packages
    }
    return JSONObject()
        .put("config", config.text)
        .putOpt("session", options.session)
        .putOpt(apps?.first, apps?.let { JSONArray(it.second) })
        .put("exclude_own_traffic", options.excludeOwnTraffic)
        .put("bypass", options.isBypassAllowed)
        .put("metered", options.isMetered)
        .toString()
}

private fun read(text: String): VpnConfig {
    val json = JSONObject(text)
    val apps = when {
        json.has("only") -> AppFilter.Only(json.getJSONArray("only").strings())
        json.has("except") -> AppFilter.Except(json.getJSONArray("except").strings())
        else -> AppFilter.All
    }
    val options = VpnOptions(
        session = if (json.has("session")) json.getString("session") else null,
        apps = apps,
        excludeOwnTraffic = json.getBoolean("exclude_own_traffic"),
        isBypassAllowed = json.getBoolean("bypass"),
        isMetered = json.getBoolean("metered"),
    )
    return VpnConfig(json.getString("config"), options)
}

private fun JSONArray.strings(): Set<String> = (0 until length()).mapTo(mutableSetOf(), ::getString)

private const val KEY_STORE = "AndroidKeyStore"
private const val KEY_ALIAS = "io.anytls.mobile.config"
