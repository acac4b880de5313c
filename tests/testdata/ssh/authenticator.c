/*
 * A security key that is none: a SecurityKeyProvider of OpenSSH's client (its PROTOCOL.u2f and sk-api.h), loaded by
 * ssh-sk-helper, whose libcrypto it uses. It has been touched where the key wants a touch, and unlocked where the key
 * wants a PIN. A key made with -O user=NAME lies in one way when it signs, see struct handle.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define API_VERSION 0x000a0000u
#define ALGORITHM_ECDSA 0
#define ALGORITHM_ED25519 1
#define FLAG_TOUCHED 0x01
#define FLAG_UNLOCKED 0x04
#define ERROR_GENERAL (-1)
#define ERROR_UNSUPPORTED (-2)

/* EVP_PKEY_ED25519 and NID_X9_62_prime256v1 of libcrypto. */
#define PKEY_ED25519 1087
#define CURVE_P256 415
#define POINT_UNCOMPRESSED 4

#define SECRET_BYTES 32
#define HASH_BYTES 32
#define ED25519_PUBLIC_BYTES 32
#define ED25519_SIGNATURE_BYTES 64
#define POINT_BYTES 65
#define COUNTER 7

struct sk_option {
	char *name;
	char *value;
	uint8_t required;
};

struct sk_enroll_response {
	uint8_t flags;
	uint8_t *public_key;
	size_t public_key_len;
	uint8_t *key_handle;
	size_t key_handle_len;
	uint8_t *signature;
	size_t signature_len;
	uint8_t *attestation_cert;
	size_t attestation_cert_len;
	uint8_t *authdata;
	size_t authdata_len;
};

struct sk_sign_response {
	uint8_t flags;
	uint32_t counter;
	uint8_t *sig_r;
	size_t sig_r_len;
	uint8_t *sig_s;
	size_t sig_s_len;
};

/* What the device gives out at enrolment and gets back to sign. */
struct handle {
	uint8_t secret[SECRET_BYTES];
	/* "application", "counter", "touch" or "pin": what it says differs from what it signs. */
	char lie[16];
};

/* Of libcrypto, whose headers need not be here. */
int RAND_bytes(unsigned char *, int);
unsigned char *SHA256(const unsigned char *, size_t, unsigned char *);
void *EVP_PKEY_new_raw_private_key(int, void *, const unsigned char *, size_t);
int EVP_PKEY_get_raw_public_key(const void *, unsigned char *, size_t *);
void *EVP_MD_CTX_new(void);
int EVP_DigestSignInit(void *, void **, const void *, void *, void *);
int EVP_DigestSign(void *, unsigned char *, size_t *, const unsigned char *, size_t);
void *EC_KEY_new_by_curve_name(int);
int EC_KEY_set_private_key(void *, const void *);
const void *EC_KEY_get0_group(const void *);
void *EC_POINT_new(const void *);
int EC_POINT_mul(const void *, void *, const void *, const void *, const void *, void *);
size_t EC_POINT_point2oct(const void *, const void *, int, unsigned char *, size_t, void *);
void *BN_bin2bn(const unsigned char *, int, void *);
int BN_bn2binpad(const void *, unsigned char *, int);
void *ECDSA_do_sign(const unsigned char *, int, void *);
void ECDSA_SIG_get0(const void *, const void **, const void **);

/* A process of ssh-sk-helper answers once: what it allocates goes with it. */
static uint8_t *copy(const void *bytes, size_t length) {
	uint8_t *copied = malloc(length);
	if (copied != NULL)
		memcpy(copied, bytes, length);
	return copied;
}

static int has_lie(const struct handle *handle, const char *lie) {
	return strncmp(handle->lie, lie, sizeof(handle->lie)) == 0;
}

uint32_t sk_api_version(void) {
	return API_VERSION;
}

int sk_enroll(uint32_t algorithm, const uint8_t *challenge, size_t challenge_length, const char *application,
    uint8_t flags, const char *pin, struct sk_option **options, struct sk_enroll_response **answer) {
	struct handle handle = {0};
	uint8_t public[POINT_BYTES];
	size_t length = sizeof(public);
	struct sk_enroll_response *made = calloc(1, sizeof(*made));
	(void)challenge;
	(void)challenge_length;
	(void)application;
	(void)pin;
	for (; options != NULL && *options != NULL; options++) {
		if (strcmp((*options)->name, "user") == 0)
			strncpy(handle.lie, (*options)->value, sizeof(handle.lie) - 1);
		else if ((*options)->required)
			return ERROR_UNSUPPORTED;
	}
	if (made == NULL || RAND_bytes(handle.secret, sizeof(handle.secret)) != 1)
		return ERROR_GENERAL;
	if (algorithm == ALGORITHM_ED25519) {
		void *key = EVP_PKEY_new_raw_private_key(PKEY_ED25519, NULL, handle.secret, sizeof(handle.secret));
		if (key == NULL || EVP_PKEY_get_raw_public_key(key, public, &length) != 1 ||
		    length != ED25519_PUBLIC_BYTES)
			return ERROR_GENERAL;
	} else if (algorithm == ALGORITHM_ECDSA) {
		/* Below the order of the curve, whose first bytes are all ones. */
		handle.secret[0] &= 0x7f;
		const void *group = EC_KEY_get0_group(EC_KEY_new_by_curve_name(CURVE_P256));
		void *point = EC_POINT_new(group);
		void *number = BN_bin2bn(handle.secret, sizeof(handle.secret), NULL);
		if (EC_POINT_mul(group, point, number, NULL, NULL, NULL) != 1)
			return ERROR_GENERAL;
		length = EC_POINT_point2oct(group, point, POINT_UNCOMPRESSED, public, sizeof(public), NULL);
		if (length != POINT_BYTES)
			return ERROR_GENERAL;
	} else {
		return ERROR_UNSUPPORTED;
	}
	made->flags = flags;
	made->public_key = copy(public, length);
	made->public_key_len = length;
	made->key_handle = copy(&handle, sizeof(handle));
	made->key_handle_len = sizeof(handle);
	/* Nobody looks at its attestation, but it must have one. */
	made->signature = copy("-", 1);
	made->signature_len = 1;
	*answer = made;
	return 0;
}

int sk_sign(uint32_t algorithm, const uint8_t *data, size_t data_length, const char *application,
    const uint8_t *key_handle, size_t key_handle_length, uint8_t flags, const char *pin, struct sk_option **options,
    struct sk_sign_response **answer) {
	struct handle handle;
	struct sk_sign_response *made = calloc(1, sizeof(*made));
	(void)pin;
	(void)options;
	if (made == NULL || key_handle_length != sizeof(handle))
		return ERROR_GENERAL;
	memcpy(&handle, key_handle, sizeof(handle));
	made->flags = flags & (FLAG_TOUCHED | FLAG_UNLOCKED);
	made->counter = COUNTER;

	/* What a device signs: the hash of the application, the flags, the counter, the hash of the data. */
	uint8_t message[HASH_BYTES + 1 + 4 + HASH_BYTES] = {0};
	const char *signed_for = has_lie(&handle, "application") ? "ssh:elsewhere" : application;
	SHA256((const unsigned char *)signed_for, strlen(signed_for), message);
	message[HASH_BYTES] = made->flags;
	message[HASH_BYTES + 4] = COUNTER;
	SHA256(data, data_length, message + HASH_BYTES + 5);
	if (has_lie(&handle, "counter"))
		made->counter++;
	if (has_lie(&handle, "touch"))
		made->flags |= FLAG_TOUCHED;
	if (has_lie(&handle, "pin"))
		made->flags |= FLAG_UNLOCKED;

	if (algorithm == ALGORITHM_ED25519) {
		uint8_t signature[ED25519_SIGNATURE_BYTES];
		size_t length = sizeof(signature);
		void *key = EVP_PKEY_new_raw_private_key(PKEY_ED25519, NULL, handle.secret, sizeof(handle.secret));
		void *context = EVP_MD_CTX_new();
		if (EVP_DigestSignInit(context, NULL, NULL, NULL, key) != 1 ||
		    EVP_DigestSign(context, signature, &length, message, sizeof(message)) != 1)
			return ERROR_GENERAL;
		made->sig_r = copy(signature, length);
		made->sig_r_len = length;
	} else if (algorithm == ALGORITHM_ECDSA) {
		uint8_t digest[HASH_BYTES], number[SECRET_BYTES];
		const void *r, *s;
		void *key = EC_KEY_new_by_curve_name(CURVE_P256);
		SHA256(message, sizeof(message), digest);
		if (EC_KEY_set_private_key(key, BN_bin2bn(handle.secret, sizeof(handle.secret), NULL)) != 1)
			return ERROR_GENERAL;
		void *signature = ECDSA_do_sign(digest, sizeof(digest), key);
		if (signature == NULL)
			return ERROR_GENERAL;
		ECDSA_SIG_get0(signature, &r, &s);
		if (BN_bn2binpad(r, number, sizeof(number)) != sizeof(number))
			return ERROR_GENERAL;
		made->sig_r = copy(number, sizeof(number));
		made->sig_r_len = sizeof(number);
		if (BN_bn2binpad(s, number, sizeof(number)) != sizeof(number))
			return ERROR_GENERAL;
		made->sig_s = copy(number, sizeof(number));
		made->sig_s_len = sizeof(number);
	} else {
		return ERROR_UNSUPPORTED;
	}
	*answer = made;
	return 0;
}

int sk_load_resident_keys(const char *pin, struct sk_option **options, void ***keys, size_t *count) {
	(void)pin;
	(void)options;
	*keys = NULL;
	*count = 0;
	return 0;
}
