package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// The cluster lives for days, not years; ten years only keeps the clock out of the picture.
const validity = 10 * 365 * 24 * time.Hour

// identity is one certificate: Kubernetes reads the user from the common name and the groups from the organizations.
type identity struct {
	file, user, group string
	dns               []string
	addresses         []net.IP
}

// writePKI fills folder with a fresh certificate authority (ca.crt, ca.key), a certificate and a key for each
// component (NAME.crt, NAME.key) and the key that signs service account tokens (service-accounts.key).
// address is the node's, under which the API server and the kubelet are reached.
func writePKI(folder, address string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	node := net.ParseIP(address)
	loopback := net.IPv4(127, 0, 0, 1)
	// The first address of the service range (see components.rs) is the Service `kubernetes`.
	service := net.IPv4(10, 96, 0, 1)

	authority := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "tenantatlas-local-ca"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	authorityKey, err := issue(folder, "ca", authority, nil, nil)
	if err != nil {
		return err
	}

	identities := []identity{
		{
			file: "kube-apiserver", user: "kube-apiserver",
			dns:       []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
			addresses: []net.IP{node, loopback, service},
		},
		{file: "kubelet", user: "system:node:local", group: "system:nodes", dns: []string{"local"}, addresses: []net.IP{node, loopback}},
		{file: "kubelet-client", user: "kube-apiserver-kubelet-client", group: "system:masters"},
		{file: "admin", user: "admin", group: "system:masters"},
		{file: "kube-controller-manager", user: "system:kube-controller-manager"},
		{file: "kube-scheduler", user: "system:kube-scheduler"},
		{file: "kube-proxy", user: "system:kube-proxy"},
	}
	for serial, identity := range identities {
		certificate := &x509.Certificate{
			SerialNumber: big.NewInt(int64(serial) + 2),
			Subject:      pkix.Name{CommonName: identity.user},
			DNSNames:     identity.dns,
			IPAddresses:  identity.addresses,
			KeyUsage:     x509.KeyUsageDigitalSignature,
			ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		if identity.group != "" {
			certificate.Subject.Organization = []string{identity.group}
		}
		if _, err := issue(folder, identity.file, certificate, authority, authorityKey); err != nil {
			return err
		}
	}

	_, err = newKey(filepath.Join(folder, "service-accounts.key"))
	return err
}

// issue writes NAME.crt and NAME.key, signed by the authority, or by itself where authority is nil.
func issue(folder, name string, certificate, authority *x509.Certificate, authorityKey *ecdsa.PrivateKey) (*ecdsa.PrivateKey, error) {
	key, err := newKey(filepath.Join(folder, name+".key"))
	if err != nil {
		return nil, err
	}
	if authority == nil {
		authority, authorityKey = certificate, key
	}
	// A clock that is set back a little must not make the cluster unusable.
	certificate.NotBefore = time.Now().Add(-time.Hour)
	certificate.NotAfter = certificate.NotBefore.Add(validity)
	der, err := x509.CreateCertificate(rand.Reader, certificate, authority, &key.PublicKey, authorityKey)
	if err != nil {
		return nil, err
	}
	return key, writePEM(filepath.Join(folder, name+".crt"), "CERTIFICATE", der)
}

func newKey(file string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(file, "EC PRIVATE KEY", der)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
